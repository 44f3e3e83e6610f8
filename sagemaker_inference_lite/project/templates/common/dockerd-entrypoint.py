"""The container's entry point: "serve", which SageMaker passes, starts the server; anything else is run as a command."""

import sys

from sagemaker_inference_lite import entry_point

sys.exit(entry_point.main(sys.argv[1:]))
