import subprocess
import sys

import geofix_index


def test_import_is_light() -> None:
    heavy = {"usearch", "torch", "onnx", "onnxruntime", "scipy", "pandas", "pyarrow", "s2sphere"}
    heavy.add("numpy.random")  # a tenth of the import, which one annotation would cause
    code = f"import sys, geofix_index; print(*({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_all_is_sorted_and_complete() -> None:
    public = {
        name
        for name, value in vars(geofix_index).items()
        if not name.startswith("_") and not type(value).__name__ == "module"
    }
    assert sorted(geofix_index.__all__) == geofix_index.__all__
    assert set(geofix_index.__all__) == public
