import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from geofix.errors import BackendUnavailable
from geofix.images import load_image, prepare_image
from geofix.input_spec import InputSpec
from geofix_train import codes, evaluate, privacy
from geofix_train.config import read_config
from geofix_train.detector import OnnxDetector
from geofix_train.fit import fit
from geofix_train.photo_table import PhotoTable, TableError, read_photo_table, write_photo_table
from geofix_train.photos import read_photos
from geofix_train.privacy import BlurError, blur, load_find_boxes, parse_boxes, private_photo
from geofix_train.training_data import load_training_data
from geofix_train.training_free import encode_photos
from tests.geofix_train.photo_files import camera_tags, write_exif_photo
from tests.geofix_train.tiny_data import make_table, tiny_config, write_data
from tests.golden_pack import PACK
from tests.tiny_pack import HEIGHT, WIDTH, make_onnx, projection

SPEC = InputSpec(width=32, height=24)
Pixels = npt.NDArray[np.uint8]
WriteHook = Callable[[str], str]


def noise(height: int, width: int, *, seed: int = 0) -> Pixels:
    """Return a photo in which each pixel has a colour of its own."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def write_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteHook:
    """Return a function that writes the body of `find(photo)` to a module; it gives its name."""
    monkeypatch.syspath_prepend(tmp_path / "hooks")

    def write(body: str) -> str:
        name = f"hook_{abs(hash((body, tmp_path)))}"
        (tmp_path / "hooks").mkdir(exist_ok=True)
        text = f"SEEN = []\n\ndef find(photo):\n    SEEN.append(photo.shape)\n    {body}\n"
        (tmp_path / "hooks" / f"{name}.py").write_text(text)
        return f"{name}:find"

    return write


def seen_by(hook: str) -> list[tuple[int, ...]]:
    """Return the shapes of the photos that a hook was given."""
    module = __import__(hook.partition(":")[0])
    return list(module.SEEN)


# Boxes


def test_boxes_are_read_from_a_cell() -> None:
    assert parse_boxes("1,2,3,4; 5.5,6,7,8;").tolist() == [[1, 2, 3, 4], [5.5, 6, 7, 8]]
    assert parse_boxes("").shape == (0, 4)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4;5", "a,b,c,d", "1 2 3 4", "1,2,3,4,5"])
def test_a_cell_that_holds_no_boxes_says_what_it_holds(text: str) -> None:
    with pytest.raises(BlurError, match=f"blur_boxes is '{text}', want x0,y0,x1,y1"):
        parse_boxes(text)


def test_a_blurred_box_holds_16_mean_colours_and_the_rest_stays() -> None:
    photo = noise(60, 80)
    photo[10:50, 20:60] //= 2
    before = photo.copy()
    blurred = blur(photo, np.array([[20.0, 10.0, 60.0, 50.0]]))
    np.testing.assert_array_equal(photo, before)
    inside = blurred[10:50, 20:60].astype(int)
    assert np.abs(inside - 64).max() < 24  # means of 100 random values
    blurred[10:50, 20:60] = photo[10:50, 20:60]
    np.testing.assert_array_equal(blurred, photo)


@given(
    st.tuples(*[st.floats(-50, 150)] * 2), st.tuples(*[st.floats(0.01, 100)] * 2), st.integers(0, 9)
)
def test_nothing_outside_of_a_box_changes(
    corner: tuple[float, float], size: tuple[float, float], seed: int
) -> None:
    photo = noise(30, 40, seed=seed)
    (x0, y0), (width, height) = corner, size
    blurred = blur(photo, np.array([[x0, y0, x0 + width, y0 + height]]))
    rows, columns = np.mgrid[:30, :40]
    outside = (columns + 1 <= x0) | (columns >= x0 + width) | (rows + 1 <= y0)
    outside |= rows >= y0 + height
    np.testing.assert_array_equal(blurred[outside], photo[outside])


def test_a_small_box_becomes_one_colour() -> None:
    blurred = blur(noise(20, 20), np.array([[2.2, 2.2, 8.9, 5.0]]))
    assert len(np.unique(blurred[2:5, 2:9].reshape(-1, 3), axis=0)) == 1


# Photos of a table


def test_a_photo_with_nothing_to_blur_stays_a_path(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=2, blur_boxes=["", "1,1,9,9"])
    assert private_photo(table, 0, find_boxes=None) == tmp_path / "000.png"
    assert isinstance(private_photo(table, 1, find_boxes=None), np.ndarray)


def test_boxes_are_blurred_before_the_photo_is_resized(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=10, blur_boxes=["0,0,40,30", *[""] * 9])
    photos, _, _ = read_photos(table, SPEC)
    whole = load_image(table.photo_path(0))
    wanted = prepare_image(blur(whole, np.array([[0.0, 0.0, 40.0, 30.0]])), SPEC)
    np.testing.assert_array_equal(photos[0], wanted)
    assert (photos[0] != prepare_image(whole, SPEC)).any()
    np.testing.assert_array_equal(photos[1], prepare_image(table.photo_path(1), SPEC))


def test_boxes_count_in_the_upright_photo(tmp_path: Path) -> None:
    path = write_exif_photo(tmp_path / "a.jpg", main=camera_tags(Orientation=6), size=(64, 48))
    columns: dict[str, Any] = {
        "path": ["a.jpg"],
        "lat": [47.0],
        "lon": [8.0],
        "blur_boxes": ["0,16,24,64"],
    }
    photo = private_photo(PhotoTable.from_columns(columns, root=tmp_path), 0, find_boxes=None)
    assert isinstance(photo, np.ndarray)
    assert photo.shape == (64, 48, 3)
    changed = (photo != load_image(path)).any(axis=2)
    assert changed[16:, :24].any()
    changed[16:, :24] = False
    assert not changed.any()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("boxes", [["1,1,9,9;2,2,4,4", ""], ["", ""]])
def test_a_table_keeps_its_boxes(tmp_path: Path, ending: str, boxes: list[str]) -> None:
    table = make_table(tmp_path, num=2, blur_boxes=boxes)
    write_photo_table(table, tmp_path / f"photos.{ending}")
    read, _ = read_photo_table(tmp_path / f"photos.{ending}")
    assert read.columns["blur_boxes"].tolist() == boxes


BAD_BOXES = [
    ("1,2,3", "blur_boxes is '1,2,3', want x0,y0,x1,y1"),
    ("9,1,1,9", "box 9,1,1,9 is bad, want x0 < x1 and y0 < y1"),
    ("1,1,41,9", "within the upright photo of 40 x 30 pixels"),
    ("-1,1,9,9", "box -1,1,9,9 is bad"),
    ("nan,1,9,9", "box nan,1,9,9 is bad"),
]


@pytest.mark.parametrize(("boxes", "reason"), BAD_BOXES)
def test_a_bad_box_names_the_row(tmp_path: Path, boxes: str, reason: str) -> None:
    table = make_table(tmp_path, num=3, blur_boxes=["", boxes, ""])
    with pytest.raises(TableError, match=r"^row 2 \(001\.png\): ") as caught:
        read_photos(table, SPEC)
    assert reason in str(caught.value)
    _, is_read, problems = read_photos(table, SPEC, on_error="skip")
    assert is_read.tolist() == [True, False, True]
    assert reason in problems[0]


# Hooks


def test_a_function_finds_boxes_beside_those_of_the_table(
    tmp_path: Path, write_hook: WriteHook
) -> None:
    table = make_table(tmp_path, num=1, blur_boxes=["0,0,20,30"])
    hook = write_hook("return [[20, 0, 99, 30]]")  # what reaches over the edge is cut off
    photos, _, _ = read_photos(table, SPEC, blur=hook)
    whole = load_image(table.photo_path(0))
    boxes = np.array([[0.0, 0.0, 20.0, 30.0], [20.0, 0.0, 40.0, 30.0]])
    np.testing.assert_array_equal(photos[0], prepare_image(blur(whole, boxes), SPEC))
    assert seen_by(hook) == [(30, 40, 3)]


@pytest.mark.parametrize("body", ["return []", "import numpy; return numpy.zeros((0, 4))"])
def test_a_function_may_find_nothing(tmp_path: Path, write_hook: WriteHook, body: str) -> None:
    table = make_table(tmp_path, num=1)
    photos, _, _ = read_photos(table, SPEC, blur=write_hook(body))
    np.testing.assert_array_equal(photos[0], prepare_image(table.photo_path(0), SPEC))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return [[1, 2, 3]]", r"boxes have shape \(1, 3\), want \(K, 4\)"),
        ("return [[5, 5, 1, 9]]", "box 5,5,1,9 is bad"),
        ("return [[5, 5, float('inf'), 9]]", "box 5,5,inf,9 is bad"),
    ],
)
def test_what_a_function_finds_is_checked(
    tmp_path: Path, write_hook: WriteHook, body: str, reason: str
) -> None:
    with pytest.raises(TableError, match=rf"row 1 \(000\.png\): {reason}"):
        read_photos(make_table(tmp_path, num=1), SPEC, blur=write_hook(body))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("faces", "want package.module:function or a file DETECTOR.onnx"),
        ("no_such_module:find", "No module named 'no_such_module'; .* PYTHONPATH"),
        ("geofix:find", "has no attribute 'find'"),
        ("geofix:__version__", "which is str, want a function"),
    ],
)
def test_what_is_no_function_is_refused(name: str, reason: str) -> None:
    with pytest.raises(BlurError, match=reason):
        load_find_boxes(name)


# Detectors


def write_detector(path: Path, rows: Any, *, height: int | None = None) -> Path:
    """Write a model that gives the same rows for every photo; return its path."""
    value = helper.make_tensor("rows", TensorProto.FLOAT, np.shape(rows), np.ravel(rows))
    side = height or "H"
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["found"], value=value)],
        "detector",
        [helper.make_tensor_value_info("photo", TensorProto.UINT8, [1, side, side, 3])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, list(np.shape(rows)))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_detector_gives_boxes_of_sufficient_score(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", [[1, 2, 3, 4, 0.9], [5, 6, 7, 8, 0.1]])
    assert OnnxDetector(path)(noise(30, 40)).tolist() == [[1, 2, 3, 4]]


def test_boxes_of_a_fixed_size_are_scaled_to_the_photo(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", [[1, 2, 3, 4, 0.9]], height=10)
    assert OnnxDetector(path)(noise(30, 40)).tolist() == [[4, 6, 12, 12]]


def test_settings_name_a_detector_relative_to_their_file(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=1)
    write_detector(tmp_path / "d.onnx", [[0, 0, 40, 30, 1.0]])
    (tmp_path / "my.toml").write_text('[data]\nphotos = "photos.csv"\nblur = "d.onnx"\n')
    photos, _, _ = read_photos(table, SPEC, blur=read_config(tmp_path / "my.toml").data.blur)
    assert (photos[0] != prepare_image(table.photo_path(0), SPEC)).any()


def test_settings_leave_the_name_of_a_function_alone(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[data]\nphotos = "photos.csv"\nblur = "faces:find"\n')
    assert read_config(tmp_path / "my.toml").data.blur == "faces:find"


def test_a_detector_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"none\.onnx: ONNX Runtime cannot load it"):
        load_find_boxes(str(tmp_path / "none.onnx"))
    spec = InputSpec(width=WIDTH, height=HEIGHT, layout="nchw", dtype="float32")
    (tmp_path / "encoder.onnx").write_bytes(
        make_onnx(projection(np.random.default_rng(0)), spec=spec)
    )
    with pytest.raises(BackendUnavailable, match=r"takes tensor\(float\) .*, want one uint8"):
        load_find_boxes(str(tmp_path / "encoder.onnx"))
    narrow = write_detector(tmp_path / "narrow.onnx", [[1, 2, 3, 4]])
    with pytest.raises(BackendUnavailable, match=r"gives shape \(1, 4\), want \(K, 5\)"):
        OnnxDetector(narrow)(noise(30, 40))


# Everything that looks at photos looks at blurred ones


def test_training_codes_and_evaluation_see_blurred_photos(
    tmp_path: Path, write_hook: WriteHook
) -> None:
    folder = write_data(tmp_path / "data")
    hook = write_hook("return [[0, 0, 40, 30]]")
    plain = tiny_config(folder / "photos.parquet", epochs=1)
    config = replace(plain, data=replace(plain.data, blur=hook))
    seen, unseen = (load_training_data(of).photos for of in (config, plain))
    assert (seen != unseen).any(axis=(1, 2, 3)).all()
    num_train = len(seen_by(hook))
    assert num_train == 32
    run = fit(config, tmp_path / "run")
    assert len(seen_by(hook)) == 2 * num_train
    codes.encode_run(run)
    assert len(seen_by(hook)) == 2 * num_train + 40
    table, _ = read_photo_table(folder / "photos.parquet")
    evaluate.predict_on_device(PACK, table.of_split("test"), blur=hook)
    assert len(seen_by(hook)) == 2 * num_train + 44


def test_codes_without_training_see_blurred_photos(tmp_path: Path, write_hook: WriteHook) -> None:
    spec = InputSpec(width=WIDTH, height=HEIGHT, layout="nchw", dtype="float32", scale=(60.0,) * 3)
    model = tmp_path / "model.onnx"
    model.write_bytes(make_onnx(projection(np.random.default_rng(0), dim=16), spec=spec))
    table = make_table(tmp_path, num=3)
    plain = encode_photos(model, table, input_spec=spec)
    hook = write_hook("return [[0, 0, 40, 30]]")
    blurred = encode_photos(model, table, input_spec=spec, blur=hook)
    assert len(seen_by(hook)) == 3
    assert (plain.features != blurred.features).any(axis=1).all()


TRAINING = Path(privacy.__file__).parent
MAY_OPEN_PHOTOS = {"photo_table.py", "privacy.py", "same_pictures.py"}


@pytest.mark.parametrize("path", sorted(TRAINING.glob("*.py")), ids=lambda path: path.name)
def test_photos_are_opened_in_one_place_and_read_with_the_hook(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = [getattr(call.func, "attr", getattr(call.func, "id", "")) for call in calls]
    assert "photo_path" not in names or path.name in MAY_OPEN_PHOTOS
    for name, call in zip(names, calls, strict=True):
        assert name != "read_photos" or "blur" in {keyword.arg for keyword in call.keywords}


def test_what_finds_boxes_is_given_gray_photos_as_ordinary_arrays(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=1)
    Image.fromarray(load_image(table.photo_path(0))[..., 0]).save(table.photo_path(0))
    seen: list[npt.NDArray[np.uint8]] = []

    def find_boxes(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        seen.append(photo)
        return np.zeros((0, 4))

    private_photo(table, 0, find_boxes=find_boxes)
    assert seen[0].flags.c_contiguous
