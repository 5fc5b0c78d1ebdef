import ast
from pathlib import Path

import geofix
from tests.geofix import typed_api
from tests.tiny_pack import make_region


def test_the_typed_program_runs(tmp_path: Path) -> None:
    region = make_region()
    path = region.write(tmp_path / "tiny.geofix")
    fixes = typed_api.use(path, region.pictures[0])
    assert len(fixes) > 10
    assert {fix.cell for fix in fixes[:1]} == {region.tokens[0]}
    for fix in fixes:
        assert typed_api.read(fix)[0] in ("fixed", "ambiguous", "unknown")
    assert typed_api.as_encoder(typed_api.Embeds()) == 3


def test_it_takes_public_names_alone() -> None:
    tree = ast.parse(Path(typed_api.__file__).read_text())
    imported = [
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geofix")
        for name in node.names
    ]
    assert set(imported) <= set(geofix.__all__)
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert not [name for name in attributes if name.startswith("_") and name != "__file__"]
