# SPDX-License-Identifier: Apache-2.0
"""The image's entry point: ``serve``, which SageMaker passes, starts the server; anything else is run as a command."""

from __future__ import annotations

import sys
from pathlib import Path

from sagemaker_inference_lite import entry_point

IN_IMAGE = Path("/home/model-server/model_handler.py")
BESIDE = Path(__file__).resolve().with_name("model_handler.py")  # in a checkout

if __name__ == "__main__":
    handler = BESIDE if BESIDE.is_file() else IN_IMAGE
    sys.exit(entry_point.main(sys.argv[1:], handler_service=f"{handler}:handle"))
