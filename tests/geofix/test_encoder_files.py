"""Packs that name their encoder and do not carry it."""

from dataclasses import replace
from pathlib import Path

import pytest

from geofix import BackendUnavailable, Localizer
from geofix.encoder_files import default_cache_dir
from geofix.manifest import EntryDigest
from geofix.pack import RegionPack
from geofix.pack_writer import EncoderFile
from tests.tiny_pack import TinyRegion


@pytest.fixture(scope="module")
def referring(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a pack that names its encoder."""
    digest = EntryDigest.of(region.encoder.data)
    encoder = replace(region.encoder, data=b"", referenced=digest)
    return region.write(tmp_path_factory.mktemp("packs") / "light.geofix", encoders=[encoder])


@pytest.fixture
def model(region: TinyRegion, tmp_path: Path) -> Path:
    """Return the path of the encoder's file, under a name of its own."""
    path = tmp_path / "models" / "mine.onnx"
    path.parent.mkdir()
    path.write_bytes(region.encoder.data)
    return path


def test_the_encoder_is_a_file_or_lies_in_a_folder(
    referring: Path, model: Path, region: TinyRegion
) -> None:
    (model.parent / "other.onnx").write_bytes(bytes(len(region.encoder.data)))
    (model.parent / "notes.txt").write_text("of another size")
    (model.parent / "folder").mkdir()
    for where in (model, model.parent, str(model)):
        with Localizer.open(referring, encoder=where) as localizer:
            assert localizer.localize(region.pictures[3]).cell == region.tokens[3]


def test_the_encoder_lies_in_a_cache(
    referring: Path, model: Path, region: TinyRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = model.parents[1]
    model.parent.rename(cache / "encoders")
    with Localizer.open(referring, cache_dir=cache) as localizer:
        assert localizer.localize(region.pictures[3]).cell == region.tokens[3]
    monkeypatch.setenv("GEOFIX_CACHE_DIR", str(cache))
    Localizer.open(referring).close()


def test_the_cache_is_where_the_system_has_its_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOFIX_CACHE_DIR", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_dir() == Path("/caches/geofix")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "geofix"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_cache_dir() == Path.home() / "Library" / "Caches" / "geofix"


def test_a_wrong_encoder_is_refused(referring: Path, model: Path, region: TinyRegion) -> None:
    model.write_bytes(bytes(len(region.encoder.data)))
    digest = EntryDigest.of(region.encoder.data)
    with pytest.raises(BackendUnavailable, match=rf"mine\.onnx is not the .*{digest.sha256}"):
        Localizer.open(referring, encoder=model)
    with pytest.raises(BackendUnavailable, match="models holds no encoder that the pack names"):
        Localizer.open(referring, encoder=model.parent)


def test_an_absent_encoder_is_an_error_that_says_where_to_put_it(
    referring: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackendUnavailable, match=rf"give encoder=FILE .* put .* {tmp_path}"):
        Localizer.open(referring, cache_dir=tmp_path)
    with pytest.raises(BackendUnavailable, match=r"nowhere: no such file or folder"):
        Localizer.open(referring, encoder=tmp_path / "nowhere")


def test_a_pack_that_carries_its_encoder_takes_the_same_and_no_other(
    pack_path: Path, model: Path, region: TinyRegion
) -> None:
    with Localizer.open(pack_path, encoder=model) as localizer:
        assert localizer.localize(region.pictures[3]).cell == region.tokens[3]
    model.write_bytes(bytes(len(region.encoder.data)))
    with pytest.raises(BackendUnavailable, match="is not the encoder that the pack names"):
        Localizer.open(pack_path, encoder=model)


def test_a_pack_is_smaller_by_the_encoder_and_searches_without_it(
    referring: Path, pack_path: Path, region: TinyRegion
) -> None:
    saved = pack_path.stat().st_size - referring.stat().st_size
    assert saved > 0.95 * len(region.encoder.data)
    pack = RegionPack.open(referring)
    pack.verify()
    assert pack.index().search(region.cell_codes[3], k=1).cells[0] == region.cells[3]


def test_an_encoder_has_data_or_refers_to_a_file(region: TinyRegion) -> None:
    digest = EntryDigest.of(b"model")
    for changes in ({"referenced": digest}, {"data": b""}):
        with pytest.raises(ValueError, match="data or refers to a file"):
            replace(region.encoder, **changes)
    assert isinstance(replace(region.encoder, data=b"", referenced=digest), EncoderFile)
