# SPDX-License-Identifier: Apache-2.0
"""The handler of all models of the image. A model's own ``code/inference.py`` says what is particular to it.

What is imported here is imported once, before the first model, and shared by the workers of all models.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.default_handler_service import DefaultHandlerService

logger = logging.getLogger(__name__)


class ModelHandler(DefaultHandlerService):
    """The default handler service. ``load``, ``preprocess`` and ``postprocess`` can be overridden like ``predict``."""

    def predict(self, data: Any, model: Any) -> Any:
        """Asks the model, and notes how long it took where SAGEMAKER_CONTAINER_LOG_LEVEL is DEBUG."""
        begun = time.perf_counter()
        prediction = super().predict(data, model)
        logger.debug("predicted in %.1f ms", 1000 * (time.perf_counter() - begun))
        return prediction


_service = ModelHandler()


def handle(data: list[dict[str, Any]] | None, context: Context) -> list[bytes] | None:
    """Loads the model when it is called with None, as Multi Model Server does once; then answers requests."""
    if not _service.initialized:
        _service.initialize(context)
    return None if data is None else _service.handle(data, context)
