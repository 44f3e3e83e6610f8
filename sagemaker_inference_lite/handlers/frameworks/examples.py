# SPDX-License-Identifier: Apache-2.0
"""What to tell somebody of a model that has just been loaded: what it is, and a request that fits it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sagemaker_inference_lite.handlers.frameworks import predict, scikit_learn
from sagemaker_inference_lite.runtime.printable import on_one_line

# What people call the libraries whose modules are called otherwise.
_TITLES = {
    "catboost": "CatBoost",
    "lightgbm": "LightGBM",
    "onnxruntime": "ONNX Runtime",
    "sklearn": "scikit-learn",
    "torch": "PyTorch",
    "xgboost": "XGBoost",
}
_TEXT = "some text"
# A longer request is no example that somebody reads.
_MOST_BYTES = 4000


class Example(NamedTuple):
    """A request that a model can answer.

    Attributes:
        content_type: Of the body.
        body: Text.
        takes: What the model takes, such as "rows of 13 numbers".
    """

    content_type: str
    body: str
    takes: str


def description(model: object) -> str:
    """What a model is, such as "LogisticRegression (scikit-learn)"; "" where its type does not say it."""
    try:
        kind = type(model)
        top = kind.__module__.partition(".")[0]
        title = _TITLES.get(top, top)
        steps = [type(step).__name__ for _, step in getattr(model, "steps", ())]
        name = f"{kind.__name__} of {', '.join(steps)}" if steps else kind.__name__
        if title in ("builtins", "numpy"):
            return ""  # what a model_fn has put together says nothing by its type
        return on_one_line(name if title == "__main__" else f"{name} ({title})")
    except Exception:  # an object of the model's owner's, which may do anything
        return ""


def example(model: object) -> Example | None:
    """A request that fits a model, by what the model says of itself; None where it says nothing. Never raises."""
    try:
        found = _of_text(model) or _of_rows(model) or _of_session(model)
        if found is not None:
            # What a model says of its width is not all that it takes: columns by name, or texts among numbers.
            value = json.loads(found.body)
            predict(value if isinstance(value, dict) else np.asarray(value), model)
    except Exception:
        return None
    return found if found is not None and len(found.body) <= _MOST_BYTES else None


def _of_text(model: Any) -> Example | None:
    first = model.steps[0][1] if getattr(model, "steps", None) else model
    return _json([_TEXT], "a list of texts") if hasattr(first, "build_analyzer") else None


def _of_rows(model: Any) -> Example | None:
    count, columns = scikit_learn.features(model), scikit_learn.names(model)
    if count is None:
        count, columns = _of_booster(model)
    return None if count is None else _json([[0.0] * count], scikit_learn.takes(count, columns))


def _of_booster(model: Any) -> tuple[int | None, tuple[str, ...]]:
    for module, count, names in (("xgboost", "num_features", "feature_names"), ("lightgbm", "num_feature", "")):
        kind = getattr(sys.modules.get(module), "Booster", ())
        if isinstance(model, kind):
            return int(getattr(model, count)()), tuple(getattr(model, names, None) or ()) if names else ()
    catboost: Any = getattr(sys.modules.get("catboost"), "CatBoost", ())
    if isinstance(model, catboost):
        names_of_features: Sequence[str] = model.feature_names_
        # CatBoost numbers the features that have no names.
        are_numbers = list(names_of_features) == [str(number) for number in range(len(names_of_features))]
        return len(names_of_features), () if are_numbers else tuple(names_of_features)
    return None, ()


def _of_session(model: Any) -> Example | None:
    session: Any = getattr(sys.modules.get("onnxruntime"), "InferenceSession", ())
    if not isinstance(model, session):
        return None
    inputs = model.get_inputs()
    values = {each.name: _zeros(_shape(each), _TEXT if "string" in each.type else _zero(each.type)) for each in inputs}
    takes = ", ".join(f"{each.name}: {each.type[7:-1]} {_shape(each)}" for each in inputs)
    return _json(next(iter(values.values())) if len(values) == 1 else values, takes)


def _shape(declared: Any) -> list[int]:
    return [each if isinstance(each, int) and each > 0 else 1 for each in declared.shape]


def _zero(declared: str) -> float | int | bool:
    if "bool" in declared:
        return False
    return 0 if "int" in declared else 0.0


def _zeros(shape: list[int], zero: object) -> object:
    return [_zeros(shape[1:], zero) for _ in range(shape[0])] if shape else zero


def _json(value: object, takes: str) -> Example:
    return Example("application/json", json.dumps(value), on_one_line(takes))
