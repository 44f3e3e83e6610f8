# SPDX-License-Identifier: Apache-2.0
"""Asking a real server for predictions, in a type and back in the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from running_server import Server

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.content_types import CSV, JSON, NPY

TYPES = (JSON, CSV, NPY)


def ask(server: Server, rows: object, content_type: str = JSON, model: str | None = None) -> Any:
    """The prediction for some rows, as an array, asked and answered in that type."""
    body, _ = codecs.encode(rows, content_type)
    headers = {"Content-Type": content_type, "Accept": content_type}
    answer = server.invoke(body, model=model, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == content_type
    return np.asarray(codecs.decode(answer.content, content_type))
