# SPDX-License-Identifier: Apache-2.0
"""Loading models into a server that runs."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import NamedTuple

# The server has limits of its own for a load, and says which one was exceeded.
_LOAD_SECONDS = 25 * 3600.0


class Loaded(NamedTuple):
    """A model has been loaded."""

    name: str
    seconds: float


class LoadFailed(NamedTuple):
    """A model has not been loaded, and why."""

    name: str
    message: str


class Answer(NamedTuple):
    """A status and what came with it."""

    status: int
    body: bytes


def load(host: str, port: int, name: str, directory: Path) -> Loaded | LoadFailed:
    """Load a model as the platform does; never raises for what the server answers, or does not."""
    # Not in the query, which the access log has: the directory may be a private one.
    body = json.dumps({"model_name": name, "url": str(directory)})
    begun = time.monotonic()
    try:
        answer = _ask(host, port, "POST", "/models", _LOAD_SECONDS, body)
    except (OSError, http.client.HTTPException) as error:
        return LoadFailed(name, f"the server did not answer: {error}")
    if answer.status == 200:
        return Loaded(name, time.monotonic() - begun)
    return LoadFailed(name, message_of(answer.body) or f"status {answer.status}")


def message_of(body: bytes) -> str:
    """The sentence in an error's body; the body's own text where it is no such thing."""
    text = body.decode(errors="replace").strip()
    try:
        content = json.loads(text)
    except ValueError:
        return text
    error = content.get("error", content) if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else text


def _ask(host: str, port: int, method: str, path: str, timeout: float, body: str | None = None) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    finally:
        connection.close()
