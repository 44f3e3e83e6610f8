# SPDX-License-Identifier: Apache-2.0
"""Asking a server: one request after the other on a connection that is kept."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from sagemaker_inference_lite.errors import InferenceLiteError

_DEFAULT_TIMEOUT = 60.0


class NoAnswerError(InferenceLiteError):
    """The server could not be reached, or closed the connection instead of answering."""


class UrlError(InferenceLiteError):
    """What was given as an address is none."""


class Target(NamedTuple):
    """Where requests go.

    Attributes:
        scheme: "http" or "https".
        host: A name or an address, without brackets.
        port: Its port.
        path: What comes after, with its query.
    """

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class Response(NamedTuple):
    """What came back.

    Attributes:
        status: The HTTP status.
        reason: Its phrase.
        content_type: Of the body; "" where it was not said.
        body: The whole of it.
        seconds: From the request's first byte to the response's last.
    """

    status: int
    reason: str
    content_type: str
    body: bytes
    seconds: float


def target(url: str, model: str | None = None) -> Target:
    """The target for a server's address.

    Args:
        url: Such as ``http://127.0.0.1:8080``, or ``127.0.0.1:8080``. A path in it is taken as it is.
        model: The model to ask; None for the only one.

    Raises:
        UrlError: It is not an HTTP address.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UrlError(f"{url} is not an address: {error}. Expected one such as http://127.0.0.1:8080.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UrlError(f"{url} is not an HTTP address. Expected one such as http://127.0.0.1:8080.")
    path = parts.path.rstrip("/")
    if not path:
        path = "/invocations" if model is None else f"/models/{quote(model, safe='')}/invoke"
    return Target(parts.scheme, parts.hostname, port, path + (f"?{parts.query}" if parts.query else ""))


class Client:
    """One connection to a server, made at the first request and anew where the server has closed it."""

    def __init__(self, where: Target, timeout: float = _DEFAULT_TIMEOUT) -> None:
        self._target = where
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(where.host, where.port, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send a body and wait for the answer.

        Raises:
            NoAnswerError: There is none. The message says why, and what to do.
        """
        begun = time.monotonic()
        try:
            try:
                return self._post(body, headers, begun)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if self._is_first:
                    raise
                # A server may close a connection between two requests; that one has not been answered for it.
                self._connection.close()
                return self._post(body, headers, begun)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NoAnswerError(_why(self._target, error, time.monotonic() - begun)) from error

    _is_first = True

    def _post(self, body: bytes, headers: Mapping[str, str], begun: float) -> Response:
        self._connection.request("POST", self._target.path, body, dict(headers))
        response = self._connection.getresponse()
        content = response.read()
        self._is_first = False
        return Response(
            response.status,
            response.reason,
            response.getheader("Content-Type", ""),
            content,
            time.monotonic() - begun,
        )


def _why(where: Target, error: Exception, seconds: float) -> str:
    place = f"{where.scheme}://{where.host}:{where.port}"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"Nobody listens at {place}. Start a server with `sagemaker-inference-lite serve PATH`, or name another "
            "with --url."
        )
    if isinstance(error, socket.timeout):  # TimeoutError, from Python 3.10 on
        return f"{place} has not answered within {seconds:.0f} seconds. --timeout waits longer."
    if isinstance(error, ssl.SSLError):
        return f"{place} cannot be spoken with by TLS: {error.reason or error}. Is it http:// instead?"
    if isinstance(error, http.client.RemoteDisconnected):
        return f"{place} closed the connection without an answer. The server's log may say why."
    if isinstance(error, http.client.HTTPException):
        return f"{place} answered with what is not HTTP ({type(error).__name__}). Is it another kind of server?"
    with suppress(AttributeError):
        return f"{place} cannot be asked: {error.strerror or error}."  # type: ignore[attr-defined] # an OSError
    return f"{place} cannot be asked: {error}."
