# SPDX-License-Identifier: Apache-2.0
"""A container's entry point."""

from sagemaker_inference_lite import model_server

model_server.start_model_server()
