"""Whether the packages of the extra ``onnx`` are installed; looked at before any work begins."""

from __future__ import annotations

import importlib.util

from recipes.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def refuse_missing() -> None:
    """Raise if a package that exports, or measures, a graph is not installed.

    Raises:
        InputError: naming the missing ones and how to install them.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f'--onnx needs {", ".join(missing)}: pip install "assay[onnx]"')
