# SPDX-License-Identifier: Apache-2.0
"""The model of most rows, in every peer: decode JSON or NPY, multiply by a matrix of weights, sum, encode JSON."""

from __future__ import annotations

import io
import json
import os

import numpy as np

NPY_MAGIC = b"\x93NUMPY"


def load(model_dir: str) -> np.ndarray:
    """The weights: float64, features x outputs."""
    return np.load(os.path.join(model_dir, "weights.npy"))


def decode(body: bytes) -> np.ndarray:
    """The rows of a request: float64, rows x features. Peers differ in whether they hand on the content type."""
    if body[:6] == NPY_MAGIC:
        return np.load(io.BytesIO(body), allow_pickle=False)
    return np.asarray(json.loads(body), dtype=np.float64)


def predict(weights: np.ndarray, rows: np.ndarray) -> list[float]:
    """One number, however many rows there are."""
    return [round(float((rows @ weights).sum()), 3)]


def answer(weights: np.ndarray, body: bytes) -> bytes:
    """The body of the answer to a body."""
    return json.dumps(predict(weights, decode(body))).encode()
