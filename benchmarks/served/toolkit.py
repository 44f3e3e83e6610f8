# SPDX-License-Identifier: Apache-2.0
"""A container's entry point."""

import os

from sagemaker_inference import model_server

handler = os.environ.get("SAGEMAKER_HANDLER")
model_server.start_model_server(*([handler] if handler else []))
