# SPDX-License-Identifier: Apache-2.0
"""Which files are models, and which of them is the one of a directory.

| file                    | loaded with | is                                                             |
|-------------------------|-------------|----------------------------------------------------------------|
| .joblib                 | joblib      | any object of Python's; unpickled, so whatever it holds runs   |
| .onnx                   | onnxruntime | an InferenceSession, on the GPU where there is one             |
| .pt                     | torch       | TorchScript: a module in eval mode, on the GPU where there is one |
| .ubj, .json             | xgboost     | a Booster                                                      |
| .txt                    | lightgbm    | a Booster                                                      |
| .cbm                    | catboost    | a CatBoostClassifier, or a CatBoost                            |
| .safetensors            | refused     | weights alone, which say nothing of what to compute            |

Files of other kinds end in .json and .txt too, so there the first bytes decide.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, NamedTuple

from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers.frameworks import boosted_trees, onnx_runtime, pytorch
from sagemaker_inference_lite.handlers.frameworks.libraries import Resources, library

# As much of a file as says what it is.
_HEAD_BYTES = 4096

_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


class Kind(NamedTuple):
    """A kind of model file.

    Attributes:
        title: What people call it.
        suffix: How the file's name ends.
        load: Loads it.
        is_one: Whether the first bytes are those of one; None where the name says enough.
    """

    title: str
    suffix: str
    load: Callable[[Path, Resources], object]
    is_one: Callable[[bytes], bool] | None = None


def _load_joblib(path: Path, resources: Resources) -> Any:
    return library("joblib", path, " (scikit-learn brings it)").load(path)


def _refuse_weights(path: Path, resources: Resources) -> object:
    raise ModelError(
        f"{path} holds weights only, and nothing says what to compute with them. Define in code/inference.py a "
        "model_fn(model_dir) that makes the model, fills it with safetensors.torch.load_model(model, path) or the "
        "like, and returns it."
    )


# In the order in which messages name them.
KINDS = (
    Kind("joblib", ".joblib", _load_joblib),
    Kind("ONNX", ".onnx", onnx_runtime.load),
    Kind("TorchScript", ".pt", pytorch.load),
    Kind("XGBoost", ".ubj", boosted_trees.load_xgboost),
    Kind("XGBoost", ".json", boosted_trees.load_xgboost, lambda head: b'"learner"' in head),
    Kind("LightGBM", ".txt", boosted_trees.load_lightgbm, lambda head: head.startswith(b"tree\n")),
    Kind("CatBoost", ".cbm", boosted_trees.load_catboost),
    Kind("weights", ".safetensors", _refuse_weights),
)
_STEM = "model"


def kind_of(path: Path) -> Kind | None:
    """What kind of model a file is, by its name and where that does not say it by its first bytes; None for others."""
    for kind in KINDS:
        if path.suffix.lower() == kind.suffix and path.is_file():
            return kind if kind.is_one is None or kind.is_one(_head(path)) else None
    return None


def only_file(directory: Path, also_tried: str) -> tuple[Path, Kind]:
    """The one model file of a directory: model.joblib and its like, or else the only other one that lies there.

    Args:
        directory: The model's directory; what lies deeper is not looked at.
        also_tried: What was looked for before, for the message.

    Raises:
        ModelError: There is none, or more than one. The message names the files, what was expected and what is there.
    """
    found = [(path, kind) for path in _visible(directory) for kind in [kind_of(path)] if kind is not None]
    named = [(path, kind) for path, kind in found if path.stem == _STEM]
    candidates = named or found
    if len(candidates) > 1:
        names = " and ".join(path.name for path, _ in _in_order(candidates))
        raise ModelError(f"{directory} holds {names}; expected one of them, or a model_fn that chooses.")
    if not candidates:
        raise ModelError(_nothing_in(directory, also_tried))
    return candidates[0]


def _in_order(candidates: list[tuple[Path, Kind]]) -> list[tuple[Path, Kind]]:
    return sorted(candidates, key=lambda each: (KINDS.index(each[1]), each[0].name))


def _visible(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*") if not path.name.startswith("."))


def _nothing_in(directory: Path, also_tried: str) -> str:
    suffixes = [f"{_STEM}{kind.suffix}" for kind in KINDS if kind.load is not _refuse_weights]
    expected = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
    tried = f"{also_tried}, and " if also_tried else ""
    sentence = (
        f"There is no model to load: {tried}none of {expected} (nor one such file of another name) is in {directory}, "
        f"which holds {_listed(directory)}."
    )
    return f"{sentence}{_hint(directory)}"


def _hint(directory: Path) -> str:
    """What the directory holds that looks as though it were meant."""
    for path in _visible(directory):
        if path.is_symlink() and not path.exists():
            return f" {path.name} is a link to {os.readlink(path)}, which does not exist."
        if path.name.endswith(_ARCHIVES) and path.is_file():
            return (
                f" {path.name} is still packed: SageMaker unpacks a model before the server starts, so unpack it here "
                f"(sagemaker-inference-lite unpack, or tar -xzf)."
            )
    return ""


def _listed(directory: Path) -> str:
    names = sorted(path.name for path in directory.glob("*"))
    return (", ".join(names[:10]) + (", ..." if len(names) > 10 else "")) or "nothing"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
