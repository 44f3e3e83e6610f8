# SPDX-License-Identifier: Apache-2.0
"""The process in which a model's program is imported: it says on a descriptor of its own what came of it.

python -m sagemaker_inference_lite.inspection DESCRIPTOR MODEL_DIR PROGRAM
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers import inference_script
from sagemaker_inference_lite.runtime import tracebacks


def inspect(model_dir: str, program: str) -> dict[str, object]:
    """The program's functions, or why it could not be imported and what kind of mistake that is."""
    try:
        hooks = inference_script.load(model_dir, program)
    except ModelError as error:
        cause = tracebacks.cause_of(error)
        return {"error": str(error), "kind": type(cause).__name__, "trace": tracebacks.text_of(error)}
    return {"functions": [each.name for each in dataclasses.fields(hooks) if getattr(hooks, each.name)]}


if __name__ == "__main__":
    descriptor, model_dir, program = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.set_inheritable(descriptor, False)
    answer = json.dumps(inspect(model_dir, program)).encode("ascii")
    os.write(descriptor, answer)
    os._exit(0)  # threads of the program's must not hold it up
