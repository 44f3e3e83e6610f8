# SPDX-License-Identifier: Apache-2.0
"""How a program ends that lets an error of start_model_server() pass: in one sentence, and with the error's status."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.runtime import standard_streams

_STDERR = 2


class ExceptHook:
    """A sys.excepthook for launch errors; all others go to the hook that was there before.

    The log has the cause. A traceback of the entry point's two lines would be what people see last, and says nothing.
    """

    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """What sys.excepthook is."""
        if not isinstance(error, LaunchError):
            self._previous(kind, error, trace)
            return
        standard_streams.flush()
        os.write(_STDERR, f"{error}\n".encode(errors="backslashreplace"))
        # Python ends with this status where a hook raises it, and runs what is registered with atexit before.
        raise SystemExit(error.exit_code)


def end_in_one_sentence() -> None:
    """Have launch errors that nobody catches end this process so. To be called once or more often."""
    if not isinstance(sys.excepthook, ExceptHook):
        sys.excepthook = ExceptHook(sys.excepthook)
