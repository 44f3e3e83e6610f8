# SPDX-License-Identifier: Apache-2.0
"""The handler of this library and of sagemaker-inference: one file for both, as Multi Model Server takes it."""

from __future__ import annotations

import importlib
import os

logic = importlib.import_module(os.environ["BENCHMARK_LOGIC"])
model = None


def handle(data, context):
    """Loads the model when it is called with None; then answers requests."""
    global model
    if data is None:
        model = logic.load(context.system_properties["model_dir"])
        return None
    return [logic.answer(model, request["body"]) for request in data]
