# SPDX-License-Identifier: Apache-2.0
"""``python -m sagemaker_inference_lite`` is the sagemaker-inference-lite command."""

from __future__ import annotations

import sys

from sagemaker_inference_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
