# SPDX-License-Identifier: Apache-2.0
"""Wines and the grape they are made of: a logistic regression, served with numpy alone. Answers have probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from features import table  # type: ignore[import-not-found]  # beside this file

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.content_types import JSON, choose


def model_fn(model_dir: str) -> Any:
    """Loads the model: its arrays by name, and no object that would have to be unpickled."""
    with np.load(Path(model_dir, "wine.npz")) as arrays:
        return dict(arrays)


def input_fn(body: bytes, content_type: str) -> Any:
    """Makes rows of measurements of a request in any type that has a codec."""
    return table(codecs.decode(body, content_type))


def predict_fn(data: Any, model: Any) -> Any:
    """Gives for each row the grapes' names and probabilities."""
    scores = (data - model["mean"]) / model["scale"] @ model["weights"] + model["bias"]
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return model["names"], odds / odds.sum(axis=1, keepdims=True)


def output_fn(prediction: Any, accept: str) -> Any:
    """Answers with objects where the client takes JSON, and else with a table of probabilities."""
    names, probabilities = prediction
    if choose(accept, codecs.encodable()) != JSON:
        return probabilities
    best = probabilities.argmax(axis=1)
    return [{"grape": names[each], "probability": row[each].round(4)} for each, row in zip(best, probabilities)]
