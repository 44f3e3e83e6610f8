# SPDX-License-Identifier: Apache-2.0
"""Models that need no code: the one obvious file of a model's directory, loaded and asked by the library it is for.

None of these libraries is a dependency of ours, and none is imported before a file asks for it (kinds.py): each comes
with what the model was made with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable

from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers.frameworks import boosted_trees, onnx_runtime, pytorch, scikit_learn
from sagemaker_inference_lite.handlers.frameworks.kinds import Kind, kind_of, only_file
from sagemaker_inference_lite.handlers.frameworks.libraries import Resources, threads
from sagemaker_inference_lite.handlers.hints import hint_of
from sagemaker_inference_lite.runtime.printable import named

__all__ = ["Kind", "Resources", "kind_of", "load", "load_file", "only_file", "predict", "why_mute"]


def load(
    model_dir: str, gpu_id: int | None = None, environ: Mapping[str, str] | None = None, also_tried: str = ""
) -> object:
    """Loads the one model file of a directory.

    joblib unpickles, which runs whatever code the file holds. It is the file of the model's owner, whose code runs
    here anyway; no request's bytes are ever unpickled.

    Args:
        model_dir: The model's directory.
        gpu_id: The GPU for a model that can use one, where its library can; None for the CPU.
        environ: Of it OMP_NUM_THREADS, a worker's share of the CPUs, is the number of threads of a model whose library
            takes all CPUs otherwise. joblib and torch heed the process's own by themselves.
        also_tried: What was looked for before, such as "/m/code/inference.py is not there": for the message where
            there is no file either.

    Returns:
        The model, as `predict` takes it.

    Raises:
        ModelError: There is no such file, more than one, or one that cannot be loaded; or its library is not
            installed. The message names the files, what was expected and what the directory holds.
    """
    path, kind = only_file(Path(model_dir), also_tried)
    return load_file(path, kind, gpu_id, environ)


def load_file(path: Path, kind: Kind, gpu_id: int | None = None, environ: Mapping[str, str] | None = None) -> object:
    """Loads a model file that only_file() has found; the rest as for load()."""
    try:
        return kind.load(path, Resources(gpu_id, threads(environ or {})))
    except ModelError:
        raise
    except Exception as error:
        mend = hint_of(error)
        raise ModelError(f"{path} cannot be loaded: {named(error)}{mend and f'. {mend}'}") from error


def predict(data: object, model: object) -> object:
    """Asks a model of any kind.

    - A Booster of xgboost's gets a DMatrix with the names and types of its own features, in which NaN and null are
      missing; one of LightGBM's gets rows of float64. Nothing but rows of numbers reaches them: of a text they, and
      xgboost's other models, would read the file that it names.
    - Any other with a method ``predict`` is asked by it. Where it raises for a request of another width than its
      ``n_features_in_``, as scikit-learn's do, that is the client's mistake: 400, with what the model takes.
    - An onnxruntime session gets each input as the type that the model declares. ``data`` is the input, or a dict with
      one value for each input's name. Whole numbers become floats where floats are declared, and floats that are
      whole become integers.
    - A torch module is called in inference mode, on its own device. Arrays, and lists that hold nothing but numbers,
      become tensors. Their floats get the dtype of the module's first floating parameter, float32 without one. So
      do their integers, because [[5, 3]] means the same as [[5.0, 3.0]] to most models; but in a module that has an
      embedding they stay int64, which is what looks a row up. A dict is handed over as keyword arguments.
    - Anything else is called.

    Args:
        data: As the codecs decode it: an array, or a list, dict, text or number.
        model: What `load` returned, or a model_fn.

    Returns:
        What the model does. Of a session that is the array of its one output, or a list with one for each, in the
        order in which they are declared; of a torch module its result with arrays in place of tensors (dtype as it
        was, float32 for bfloat16), inside tuples, lists and dicts too.

    Raises:
        ClientError: 400. data is not what the model declares: another shape, other names, text for numbers.
        TypeError: The model is none of these.
    """
    ask = _way_to_ask(model)
    if ask is None:
        raise TypeError(why_mute(model))
    return ask(data)


def why_mute(model: object) -> str:
    """Why a model could not be asked by `predict`, whatever the request; "" where it could."""
    if _way_to_ask(model) is not None:
        return ""
    return f"a model of type {type(model).__name__} has no method predict and cannot be called"


def _way_to_ask(model: Any) -> Callable[[Any], object] | None:
    own = getattr(model, "predict", None)
    kinds = _KINDS_WITH_PREDICT if callable(own) else _KINDS_WITHOUT
    for module, name, ask in kinds:
        if isinstance(model, _class_of(module, name)):
            return partial(ask, model)
    if callable(own):
        return partial(scikit_learn.run, model)
    return model if callable(model) else None


def _class_of(module: str, name: str) -> Any:
    """The class, or no class at all: there are no instances of it before its library has been imported."""
    return getattr(sys.modules.get(module), name, ())


_Kinds = tuple[tuple[str, str, Callable[[Any, Any], object]], ...]

# Models that are asked in a way of their own: what they are instances of, and what asks them.
_KINDS_WITH_PREDICT: _Kinds = (
    ("xgboost", "Booster", boosted_trees.run_xgboost),
    ("xgboost", "XGBModel", boosted_trees.run_on_rows),
    ("lightgbm", "Booster", boosted_trees.run_lightgbm),
    ("catboost", "CatBoost", boosted_trees.run_on_rows),
)
_KINDS_WITHOUT: _Kinds = (
    ("onnxruntime", "InferenceSession", onnx_runtime.run),
    ("torch.nn", "Module", pytorch.run),
)
