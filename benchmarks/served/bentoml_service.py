# SPDX-License-Identifier: Apache-2.0
"""A BentoML service that takes a body as it is and answers with bytes."""

import importlib
import os

import bentoml

logic = importlib.import_module(os.environ["BENCHMARK_LOGIC"])


@bentoml.service(workers=int(os.environ["BENCHMARK_WORKERS"]), logging={"access": {"enabled": False}})
class Service:
    """Answers with the same logic as the other peers."""

    def __init__(self) -> None:
        self.model = logic.load(os.environ["BENCHMARK_MODEL"])

    @bentoml.api(route="/invocations")
    def invocations(self, body: bytes, /) -> bytes:
        """The answer to one request."""
        return logic.answer(self.model, body)
