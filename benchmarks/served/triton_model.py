# SPDX-License-Identifier: Apache-2.0
"""The model.py of Triton's Python backend: the body is a tensor of bytes, and so is the answer."""

from __future__ import annotations

import importlib
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with the same logic as the other peers."""

    def initialize(self, args):
        """Loads the model from the directory of its version."""
        self.logic = importlib.import_module(os.environ["BENCHMARK_LOGIC"])
        self.model = self.logic.load(os.path.join(args["model_repository"], args["model_version"]))

    def execute(self, requests):
        """Answers requests, each by itself."""
        return [self.respond(request) for request in requests]

    def respond(self, request):
        """The answer to one."""
        body = pb_utils.get_input_tensor_by_name(request, "BODY").as_numpy().tobytes()
        answer = np.frombuffer(self.logic.answer(self.model, body), dtype=np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWER", answer)])
