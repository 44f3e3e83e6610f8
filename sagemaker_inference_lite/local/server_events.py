# SPDX-License-Identifier: Apache-2.0
"""What the server's process tells the one that started it: typed messages, each a line of a pipe of their own.

The models' processes do not have the pipe, so what comes from it is the server's.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Union

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.supervision import observer
from sagemaker_inference_lite.supervision.observer import (
    Listening,
    ModelFailed,
    ModelLoaded,
    Ready,
    Reloaded,
    ReloadFailed,
)


class StartFailed(NamedTuple):
    """The server is about to end, because it cannot start or go on.

    Attributes:
        exit_code: What it exits with.
        message: One sentence or two: what happened, and what to do.
    """

    exit_code: int
    message: str


Event = Union[StartFailed, observer.Event]

_KINDS: tuple[type[Any], ...] = (StartFailed, Listening, Ready, ModelLoaded, ModelFailed, Reloaded, ReloadFailed)
_BY_NAME = {kind.__name__: kind for kind in _KINDS}


def encode(event: Event) -> bytes:
    """The line of an event."""
    return json.dumps([type(event).__name__, *event]).encode("ascii") + b"\n"


def parse(line: bytes) -> Event:
    """The event of a line.

    Raises:
        WireError: it is none.
    """
    try:
        name, *values = json.loads(line)
        event: Event = _BY_NAME[name](*values)
    except (ValueError, TypeError, KeyError):
        raise WireError(f"{line[:50]!r} is not an event of a server's") from None
    return event
