# SPDX-License-Identifier: Apache-2.0
"""A LitServe server. LitServe reads JSON in its web server, so a body of that type arrives here decoded."""

import importlib
import os
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body

logic = importlib.import_module(os.environ["BENCHMARK_LOGIC"])


class Api(litserve.LitAPI):
    """Answers with the same logic as the other peers."""

    def setup(self, device):
        """Loads the model."""
        self.model = logic.load(os.environ["BENCHMARK_MODEL"])

    def decode_request(self, request: Annotated[Any, Body()]):
        """Bytes, or what the web server has read already."""
        return logic.decode(request) if isinstance(request, bytes) else np.asarray(request, dtype=np.float64)

    def predict(self, rows):
        """One number."""
        return logic.predict(self.model, rows)

    def encode_response(self, output):
        """What the web server makes JSON of."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(api_path="/invocations"), accelerator="cpu", workers_per_device=int(os.environ["BENCHMARK_WORKERS"])
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCHMARK_PORT"]), generate_client_file=False, log_level="error")
