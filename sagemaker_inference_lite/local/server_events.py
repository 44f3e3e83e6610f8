# SPDX-License-Identifier: Apache-2.0
"""What the server's process tells the one that started it: typed messages, each a line of a pipe of their own.

The models' processes do not have the pipe, so what comes from it is the server's.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Union

from sagemaker_inference_lite.descriptions import Description, ModelDescribed
from sagemaker_inference_lite.errors import WireError


class StartFailed(NamedTuple):
    """The server has ended, or is about to, because it cannot start or go on.

    Attributes:
        exit_code: What it exits with.
        message: One sentence or two: what happened, and what to do.
    """

    exit_code: int
    message: str


Event = Union[StartFailed, ModelDescribed]


def encode(event: Event) -> bytes:
    """The line of an event."""
    values = [event.model, *event.description] if isinstance(event, ModelDescribed) else list(event)
    return json.dumps([type(event).__name__, *values]).encode("ascii") + b"\n"


def parse(line: bytes) -> Event:
    """The event of a line.

    Raises:
        WireError: it is none.
    """
    try:
        name, *values = json.loads(line)
        if name == StartFailed.__name__:
            return StartFailed(*values)
        if name == ModelDescribed.__name__:
            return ModelDescribed(values[0], Description(*values[1:]))
    except (ValueError, TypeError, IndexError):
        pass
    raise WireError(f"{line[:50]!r} is no event of a server's")
