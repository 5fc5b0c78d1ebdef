"""A detector of faces and number plates as an ONNX file.

Input: one tensor, uint8 (1, H, W, 3), a whole upright photo, RGB. Height and width may be free;
where they are fixed, the photo is stretched to them. Output: the first tensor, float (K, 5): x0,
y0, x1, y1 in pixels of the input, and a score from 0 to 1.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.errors import BackendUnavailable
from geofix.images import resize_image
from geofix_index.onnx_runtime import import_onnxruntime

MIN_SCORE = 0.3  # low: a face that is missed costs more than a window that is blurred


class OnnxDetector:
    """Finds boxes in photos; several threads may call it."""

    def __init__(self, path: Path) -> None:
        """Load a model.

        Raises:
            BackendUnavailable: ONNX Runtime is absent or cannot load it, or it takes another input.
        """
        self.path = path
        self._session = _open_session(path)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(shape) != 4:
            taken = ", ".join(f"{tensor.type} {tensor.shape}" for tensor in inputs)
            raise BackendUnavailable(f"{path}: takes {taken}, want one uint8 tensor (1, H, W, 3)")
        self._input_name = inputs[0].name
        self._fixed = tuple(side if isinstance(side, int) else None for side in shape[1:3])

    def __call__(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the boxes (K, 4) of a photo (H, W, 3) whose score is at least `MIN_SCORE`.

        Raises:
            BackendUnavailable: the model fails, or gives something else than (K, 5).
        """
        height, width = photo.shape[:2]
        seen_height, seen_width = self._fixed[0] or height, self._fixed[1] or width
        if (seen_height, seen_width) != (height, width):
            photo = resize_image(photo, width=seen_width, height=seen_height)
        try:
            found = self._session.run(None, {self._input_name: photo[None]})[0]
        except Exception as e:  # ONNX Runtime's errors share no base class but this
            raise BackendUnavailable(f"{self.path}: ONNX Runtime cannot run it: {e}") from e
        if found.ndim != 2 or found.shape[1] != 5:
            raise BackendUnavailable(f"{self.path}: gives shape {found.shape}, want (K, 5)")
        boxes = np.asarray(found[found[:, 4] >= MIN_SCORE, :4], np.float64)
        scale_x, scale_y = width / seen_width, height / seen_height
        return np.asarray(boxes * (scale_x, scale_y, scale_x, scale_y))


def _open_session(path: Path) -> Any:
    try:
        ort = import_onnxruntime()
    except ImportError as e:
        raise BackendUnavailable("a detector needs ONNX Runtime: pip install 'geofix[onnx]'") from e
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only; what matters is raised
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's errors share no base class but this
        raise BackendUnavailable(f"{path}: ONNX Runtime cannot load it: {e}") from e
