# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: a support vector machine of scikit-learn's. Answers are what the default gives: numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
from features import table  # type: ignore[import-not-found]  # beside this file

from sagemaker_inference_lite import codecs


def model_fn(model_dir: str) -> Any:
    """Loads the model, once for each worker."""
    return joblib.load(Path(model_dir, "digits.joblib"))


def input_fn(body: bytes, content_type: str) -> Any:
    """Makes rows of pixels of a request in any type that has a codec."""
    return table(codecs.decode(body, content_type))


def predict_fn(data: Any, model: Any) -> Any:
    """Says for each row which digit it is."""
    return model.predict(data)
