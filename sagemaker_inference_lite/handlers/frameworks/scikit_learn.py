# SPDX-License-Identifier: Apache-2.0
"""Models with a method predict, as scikit-learn has made it known: what they say that they take."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagemaker_inference_lite.errors import ClientError
from sagemaker_inference_lite.handlers.frameworks.casting import as_array

_MOST_NAMES = 20

# Of a library's own words in an answer; some show the whole request.
_MOST_CHARACTERS = 200


def run(model: Any, data: object, refusals: tuple[type[Exception], ...] = ()) -> object:
    """Asks a model by its method predict.

    Args:
        model: The model.
        data: What the request holds.
        refusals: What it raises for values that it does not take, beside TypeError and ValueError.

    Raises:
        ClientError: 400. The model raised one of these, and the request is not of the width that the model says it
            takes, or has something else than finite numbers in it. What the model answers nevertheless is its answer.
    """
    raised: tuple[type[Exception], ...] = (TypeError, ValueError, *refusals)
    try:
        return model.predict(data)
    except raised as error:
        mismatch = _mismatch(model, data)
        if mismatch:
            raise ClientError(400, mismatch) from error
        if _has_other_values(data):
            first_line = str(error).strip().partition("\n")[0][:_MOST_CHARACTERS]
            raise ClientError(
                400, f"The model does not take the request's values, which are not all finite numbers: {first_line}"
            ) from error
        raise


def _has_other_values(data: object) -> bool:
    """Whether a request has text, null, NaN or the like in it; False where nobody can tell."""
    try:
        array = as_array(data)
        return array.dtype.kind not in "biufc" or not bool(np.isfinite(array).all())
    except (TypeError, ValueError):
        return False


def features(model: Any) -> int | None:
    """How many numbers each row has that the model takes (``n_features_in_``); None where it does not say."""
    try:
        count = model.n_features_in_
    except Exception:  # of a pipeline it is a property that asks its first step
        return None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def names(model: Any) -> tuple[str, ...]:
    """The columns that the model was fitted with (``feature_names_in_``); none where it does not say."""
    try:
        return tuple(map(str, model.feature_names_in_))
    except Exception:
        return ()


def takes(count: int, columns: tuple[str, ...]) -> str:
    """What to say of the rows that a model takes."""
    shown = ", ".join(columns[:_MOST_NAMES]) + (", ..." if len(columns) > _MOST_NAMES else "")
    return f"rows of {count} {'number' if count == 1 else 'numbers'}" + (f" ({shown})" if columns else "")


def _mismatch(model: Any, data: object) -> str:
    """Why the request does not fit the model; "" where it does, or nobody can tell."""
    count = features(model)
    if count is None:
        return ""
    expected = takes(count, names(model))
    if data is None or isinstance(data, (str, bytes, dict, int, float)):
        return f"The model takes {expected}; the request holds no such rows: send [[...]]."
    if not isinstance(data, (np.ndarray, list)):
        return ""
    try:
        shape = np.shape(data)
    except ValueError:
        return f"The model takes {expected}; the request's rows are of different lengths."
    if len(shape) == 1 and shape[0] == count:
        return f"The model takes {expected}; the request is one row without brackets around it: send [[...]]."
    if len(shape) != 2 or shape[1] != count:
        return f"The model takes {expected}; the request's shape is {list(shape)}."
    return ""
