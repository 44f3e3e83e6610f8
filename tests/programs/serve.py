# SPDX-License-Identifier: Apache-2.0
"""A container's entry point, as small as it gets: serve.py [HANDLER_SERVICE]."""

import sys

from sagemaker_inference_lite import errors, model_server

try:
    model_server.start_model_server(sys.argv[1] if len(sys.argv) > 1 else None)
except errors.LaunchError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
