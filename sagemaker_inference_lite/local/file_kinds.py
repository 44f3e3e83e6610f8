# SPDX-License-Identifier: Apache-2.0
"""Which library a model's file is of, by its name and its first bytes; nothing is loaded for it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

# As much of a file as says what it is.
_HEAD_BYTES = 4096


class FileKind(Enum):
    """What a model's file was written by."""

    JOBLIB = "joblib"
    ONNX = "ONNX"
    TORCHSCRIPT = "TorchScript"
    XGBOOST = "XGBoost"
    LIGHTGBM = "LightGBM"
    CATBOOST = "CatBoost"


_BY_SUFFIX = {
    ".joblib": FileKind.JOBLIB,
    ".onnx": FileKind.ONNX,
    ".pt": FileKind.TORCHSCRIPT,
    ".ubj": FileKind.XGBOOST,
    ".json": FileKind.XGBOOST,
    ".txt": FileKind.LIGHTGBM,
    ".cbm": FileKind.CATBOOST,
}
SUFFIXES = tuple(_BY_SUFFIX)


def kind_of(path: Path) -> FileKind | None:
    """What a file is; None where it is no model's.

    Names that end in .json and .txt are given to other files too, so what these hold must be what the library writes.
    """
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if path.suffix.lower() == ".json":
        return kind if b'"learner"' in _head(path) else None
    if path.suffix.lower() == ".txt":
        return kind if _head(path).startswith(b"tree\n") else None
    return kind


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
