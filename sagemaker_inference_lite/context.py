# SPDX-License-Identifier: Apache-2.0
"""The context that a handler is called with: MMS's interface (mms/context.py), and plain attributes beside it.

A handler of MMS's is called as ``handle(data, context)``, where ``data`` is a list with one dict per request of
the batch. Methods that take ``idx`` mean the request at that place; the plain attributes mean the first one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sagemaker_inference_lite import __version__

# The platform's headers (API_runtime_InvokeEndpoint); it drops all others that it does not define.
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"

# The most that the platform passes on (API_runtime_InvokeEndpoint, ResponseSyntax).
_MAX_CUSTOM_ATTRIBUTES = 1024

# A header's value must not end the line that it stands on, nor hold other control characters (RFC 9110, section 5.5).
_CONTROLS = dict.fromkeys((*range(9), *range(10, 32), 127), " ")


class Headers(dict[str, Any]):
    """Request headers: a dict under the names that the client sent, found in any case (RFC 9110, section 5.1)."""

    def __missing__(self, key: object) -> Any:
        if not isinstance(key, str):
            raise KeyError(key)
        return self._folded()[key.lower()]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and key.lower() in self._folded())

    def get(self, key: str, default: Any = None) -> Any:
        """The value of the header named ``key`` in any case, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def _folded(self) -> dict[str, Any]:
        return {name.lower(): value for name, value in self.items()}


@lru_cache(256)
def _header_name(name: str) -> str:
    """The name, if it is one; that of the content type in one case, because it is asked for."""
    if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
        raise ValueError(
            f"{name[:100]!r} is not a valid header name: expected letters and digits of ASCII, and hyphens"
        )
    return "content-type" if name.lower() == "content-type" else name


class RequestProcessor:
    """What is known of one request, and what its answer is to look like (mms.context.RequestProcessor)."""

    __slots__ = ("_headers", "_reason_phrase", "_response_headers", "_status_code")

    def __init__(self, request_header: Mapping[str, Any] | Callable[[], Headers]) -> None:
        self._headers = request_header
        self._status_code = 200
        self._reason_phrase: str | None = None
        self._response_headers: dict[str, str] = {}

    def get_request_property(self, key: str) -> Any:
        """The request header of that name in any case, None without one."""
        return self.get_request_properties().get(key)

    def get_request_properties(self) -> Headers:
        """All request headers, and for each input its name with a dict that holds its ``content-type``."""
        headers = self._headers
        if not isinstance(headers, Headers):
            # Only now: many a handler never asks.
            headers = self._headers = headers() if callable(headers) else Headers(headers)
        return headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Answer this request with that HTTP status. The phrase is kept but the status's own is sent."""
        self._status_code = int(code)
        self._reason_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        """The HTTP status that the answer will have."""
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        """What report_status() was given."""
        return self._reason_phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Set a response header. Control characters become spaces, so that a value cannot forge a header.

        Raises:
            ValueError: key is not a valid header name (RFC 9110, section 5.1). MMS would never answer the request.
        """
        self._response_headers[_header_name(str(key))] = str(value).translate(_CONTROLS)

    def get_response_headers(self) -> dict[str, str]:
        """The response headers set so far."""
        return self._response_headers

    def get_response_header(self, key: str) -> str | None:
        """The response header set under exactly that name, None without one."""
        return self._response_headers.get(key)


class Context:
    """One model's context: made at its load, given the requests of each batch in turn.

    Attributes:
        model_name: The name under which the model was loaded.
        manifest: MAR-INF/MANIFEST.json of a model archive, else None.
        request_ids: The front end's id of each request, by place in the batch; None while loading.
        load_report: A line about the load for the log, set by the handler if it likes.
    """

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        gpu: int | None = None,
        server_version: str = __version__,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.request_ids: dict[int, str] | None = None
        self.load_report = ""
        self._system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            # Handlers look at this name to tell which server they run on.
            "server_name": "MMS",
            "server_version": server_version,
        }
        self._request_processor: list[RequestProcessor] | None = None
        self._bodies: list[Any] = []
        self._metrics: Any = None

    def begin(self, requests: Iterable[tuple[str, Mapping[str, Any] | Callable[[], Headers], Any]]) -> None:
        """Turn to a new batch: the id, the headers and the raw body (None without one) of each request.

        Headers may be given as a function that makes them, which is called when they are first asked for.
        """
        self.request_ids = {}
        self._request_processor = []
        self._bodies = []
        self._metrics = None
        for place, (request_id, headers, body) in enumerate(requests):
            self.request_ids[place] = request_id
            self._request_processor.append(RequestProcessor(headers))
            self._bodies.append(body)

    def for_requests(self, places: Sequence[int]) -> Context:
        """The context of some requests of the batch, as if they were the whole batch.

        What is set on it, a status or a header, is set on those requests.

        Args:
            places: Of the requests within this batch; the context that is returned counts them from 0 on.
        """
        if len(places) == len(self._bodies):
            return self
        part = copy.copy(self)
        processors = self._request_processor or []
        part.request_ids = {place: self.get_request_id(each) or "" for place, each in enumerate(places)}
        part._request_processor = [processors[each] for each in places]
        part._bodies = [self._bodies[each] for each in places]
        return part

    @property
    def system_properties(self) -> dict[str, Any]:
        """``model_dir``, ``gpu_id`` (int or None), ``batch_size``, ``server_name`` ("MMS"), ``server_version``."""
        return self._system_properties

    @property
    def request_processor(self) -> list[RequestProcessor] | None:
        """One RequestProcessor per request of the batch; None while loading."""
        return self._request_processor

    @request_processor.setter
    def request_processor(self, value: list[RequestProcessor] | None) -> None:
        self._request_processor = value

    @property
    def metrics(self) -> Any:
        """MMS's MetricsStore for this batch, made when it is first asked for. Nothing collects what it holds."""
        if self._metrics is None:
            from mms.metrics.metrics_store import MetricsStore

            self._metrics = MetricsStore(self.request_ids, self.model_name)
        return self._metrics

    @metrics.setter
    def metrics(self, value: Any) -> None:
        self._metrics = value

    # -- plain attributes: of the first request of the batch --

    @property
    def request_id(self) -> str | None:
        """The front end's id of the request, which the caller gets as ``x-request-id``; None while loading."""
        return self.request_ids.get(0) if self.request_ids else None

    @property
    def custom_attributes(self) -> str | None:
        """The request's X-Amzn-SageMaker-Custom-Attributes, None without it; see `set_custom_attributes`."""
        return self._header(CUSTOM_ATTRIBUTES)

    @property
    def target_model(self) -> str | None:
        """X-Amzn-SageMaker-Target-Model, None without it."""
        return self._header(TARGET_MODEL)

    @property
    def inference_id(self) -> str | None:
        """X-Amzn-SageMaker-Inference-Id, None without it."""
        return self._header(INFERENCE_ID)

    @property
    def gpu_id(self) -> int | None:
        """The GPU that this worker is to use, None without one."""
        gpu: int | None = self._system_properties["gpu_id"]
        return gpu

    @property
    def raw_body(self) -> Any:
        """The request's body as bytes, before any decoding, that of a form too; None while loading."""
        return self._bodies[0] if self._bodies else None

    def _header(self, name: str) -> str | None:
        return self.get_request_header(0, name) if self._request_processor else None

    # -- MMS's interface --

    def _processor(self, idx: int) -> RequestProcessor:
        if self._request_processor is None:
            raise RuntimeError("there is no request while the model loads")
        return self._request_processor[idx]

    def get_request_id(self, idx: int = 0) -> str | None:
        """The front end's id of a request."""
        return self.request_ids.get(idx) if self.request_ids else None

    def get_request_header(self, idx: int, key: str) -> Any:
        """A request header by its name in any case, None without it."""
        return self._processor(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> Headers:
        """All headers of a request."""
        return self._processor(idx).get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """The Content-Type of an answer."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """What set_response_content_type() was given."""
        return self._processor(idx).get_response_header("content-type")

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Status and phrase of an answer."""
        processor = self._processor(idx)
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """The HTTP status of an answer. While the model loads there is none, and nothing happens, as in MMS."""
        if self._request_processor is not None:
            self._request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """The HTTP status of every answer of the batch."""
        for processor in self._request_processor or ():
            processor.report_status(code, phrase)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """The response headers set so far."""
        return self._processor(idx).get_response_headers()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a response header; control characters in its value become spaces.

        Raises:
            ValueError: key is not a valid header name.
        """
        self._processor(idx).add_response_property(key, value)

    def set_custom_attributes(self, value: str, idx: int = 0) -> None:
        """Set X-Amzn-SageMaker-Custom-Attributes of an answer; the platform adds none by itself.

        Raises:
            ValueError: value is not what the platform passes on: at most 1,024 characters, all of them visible ones
                of ASCII or spaces.
        """
        if len(value) > _MAX_CUSTOM_ATTRIBUTES or not (value.isascii() and value.isprintable()):
            raise ValueError(
                f"custom attributes must be at most {_MAX_CUSTOM_ATTRIBUTES} visible characters of ASCII, "
                f"not {len(value)} such as {value[:100]!r}"
            )
        self.set_response_header(idx, CUSTOM_ATTRIBUTES, value)
