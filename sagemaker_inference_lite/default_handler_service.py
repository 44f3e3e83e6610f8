# SPDX-License-Identifier: Apache-2.0
"""The handler service for models that bring no other: preprocess, predict, postprocess.

MMS takes a module for a handler if it defines exactly one class that has ``initialize`` and ``handle``. This module
is one, and so is a module that defines one subclass; a second class here would break both.
"""

from __future__ import annotations

import importlib
import logging
import os
import traceback
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sagemaker_inference_lite import codecs, user_module
from sagemaker_inference_lite.content_types import JSON, OCTET_STREAM, TEXT_PLAIN, accepts_anything, preferred
from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.error_body import describe, error_body
from sagemaker_inference_lite.errors import ModelError, RequestError, UnsupportedMediaTypeError
from sagemaker_inference_lite.settings import Settings

logger = logging.getLogger(__name__)

MODEL_FILE = "model.joblib"


class DefaultHandlerService:
    """Serves one model, by its own ``code/inference.py`` where that says how, and by defaults where it does not.

    A subclass may override `load`, `preprocess`, `predict` and `postprocess`, each alone.

    Args:
        settings: What the environment asks for. Where None is given, `initialize` reads os.environ, because MMS
            makes an instance without arguments.

    Attributes:
        settings: The settings in force; the defaults before `initialize` where none were given.
        initialized: Whether the model is loaded.
        model: What `load` returned.
        hooks: The functions of the model's program.
        context: The context of the call under way. It belongs to the whole batch.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._reads_environment = settings is None
        self.settings = settings or Settings()
        self.initialized = False
        self.model: Any = None
        self.hooks = user_module.Hooks()
        self.context: Context

    def initialize(self, context: Context) -> None:
        """Loads the model. MMS calls it once, before any request.

        Raises:
            ModelError: The model or its program cannot be loaded.
            SettingsError: The environment holds values that cannot be used.
            Exception: Whatever a model_fn raises.
        """
        if self._reads_environment:
            self.settings = Settings.from_environ(os.environ)
        self.context = context
        model_dir = str(context.system_properties["model_dir"])
        self.hooks = user_module.load(model_dir, self.settings.program)
        self.model = self.load(model_dir)
        self.initialized = True

    def handle(self, data: Sequence[Mapping[str, Any]] | None, context: Context) -> list[bytes] | None:
        """Answers the requests of a batch.

        A request that fails with a `RequestError` is answered with its status and a JSON body (`error_body`), and
        the others of the batch go on. Any other exception does the same with status 500, or 507 for a MemoryError,
        and its traceback goes to the log; but it propagates where the request is alone in its batch, and the worker
        answers it. An instance that has not been initialized is, so that ``handle`` serves as a function too.

        Args:
            data: One mapping for each request, with its body under "body"; None in the first call of a function.
            context: MMS's context. Statuses and content types are set on it.

        Returns:
            One body for each request, in their order; None where data is None.
        """
        if not self.initialized:
            self.initialize(context)
        if data is None:
            return None
        self.context = context
        return [self._answer(item, index, is_alone=len(data) == 1) for index, item in enumerate(data)]

    def load(self, model_dir: str) -> Any:
        """Loads the model: by the program's model_fn, or else ``model.joblib``.

        joblib unpickles, which runs whatever code the file holds. It is the file of the model's owner, whose code
        runs here anyway; no request's bytes are ever unpickled.

        Args:
            model_dir: The model's directory.

        Returns:
            The model, as `predict` will get it.

        Raises:
            ModelError: There is neither, or the file cannot be read; the message says what was looked for and where.
        """
        if self.hooks.model_fn:
            return self.hooks.model_fn(model_dir, self.context)
        path = Path(model_dir, MODEL_FILE)
        if not path.is_file():
            raise ModelError(f"There is no model to load: {self._looked_for(model_dir)}.")
        try:
            # It comes with the library that the model was made with, and is no dependency of ours.
            return importlib.import_module("joblib").load(path)
        except Exception as error:
            raise ModelError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error

    def preprocess(self, body: bytes, content_type: str) -> Any:
        """Makes the model's input of a request's body: by the program's input_fn, or else `codecs.decode`.

        Args:
            body: The body as it came.
            content_type: The Content-Type header; application/json where there was none, which is what clients of
                SageMaker send most (RFC 9110, section 8.3, leaves the choice to the recipient).

        Raises:
            ClientError: The body cannot be decoded.
        """
        if self.hooks.input_fn:
            return self.hooks.input_fn(body, content_type, self.context)
        return codecs.decode(body, content_type)

    def predict(self, data: Any, model: Any) -> Any:
        """Asks the model: by the program's predict_fn, or else ``model.predict(data)`` or ``model(data)``.

        Args:
            data: What `preprocess` returned.
            model: What `load` returned.

        Raises:
            TypeError: The model has no ``predict`` and cannot be called.
        """
        if self.hooks.predict_fn:
            return self.hooks.predict_fn(data, model, self.context)
        function = getattr(model, "predict", model)
        if not callable(function):
            raise TypeError(f"a model of type {type(model).__name__} has no method predict and cannot be called")
        return function(data)

    def postprocess(self, prediction: Any, accept: str) -> Any:
        """Makes the response of a prediction: by the program's output_fn, or else `codecs.encode`.

        Args:
            prediction: What `predict` returned.
            accept: The Accept header; the setting's default where there was none or it accepts everything.

        Returns:
            A body (bytes or text, which is sent in UTF-8) of the type that accept asks for before others; or a pair
            of a body and its content type; or anything else, which `codecs.encode` makes a body of.

        Raises:
            NotAcceptableError: The prediction cannot be had in any type that is accepted.
        """
        if self.hooks.output_fn:
            return self.hooks.output_fn(prediction, accept, self.context)
        return codecs.encode(prediction, accept)

    def _answer(self, item: Mapping[str, Any], index: int, *, is_alone: bool) -> bytes:
        try:
            body, content_type = self._respond(item, index)
        except RequestError as error:
            body, content_type = self._failed(error, index), JSON
        except Exception as error:
            if is_alone:
                raise
            body, content_type = self._failed(error, index), JSON
        self.context.set_response_content_type(index, content_type)
        return body

    def _respond(self, item: Mapping[str, Any], index: int) -> tuple[bytes, str]:
        content_type = self.context.get_request_header(index, "Content-Type") or JSON
        accept = self.context.get_request_header(index, "Accept")
        if accepts_anything(accept):
            accept = self.settings.default_invocations_accept
        data = self.preprocess(_body(item), content_type)
        response = self.postprocess(self.predict(data, self.model), accept)
        return _body_and_type(response, accept)

    def _failed(self, error: Exception, index: int) -> bytes:
        """Sets the status of a request that failed, logs why, and returns the body."""
        status, type_name, message = describe(error)
        error_id = uuid.uuid4().hex
        is_ours = status >= 500
        logger.log(
            logging.ERROR if is_ours else logging.INFO,
            "request %d of the batch failed with status %d, error id %s: %s: %r",
            index,
            status,
            error_id,
            type(error).__name__,
            str(error),
            exc_info=error if is_ours else None,
        )
        self.context.set_response_status(status, _phrase(status), index)
        trace = _trace(error) if self.settings.expose_tracebacks else None
        return error_body(type_name, message, error_id=error_id, trace=trace)

    def _looked_for(self, model_dir: str) -> str:
        program = user_module.program_path(model_dir, self.settings.program)
        found = sorted(path.name for path in Path(model_dir).glob("*"))
        listed = ", ".join(found[:10]) + (", ..." if len(found) > 10 else "")
        missing = f"{program} defines no model_fn" if program.is_file() else f"{program} is not there"
        return f"{missing}, and {MODEL_FILE} is not in {model_dir}, which holds {listed or 'nothing'}"


def _body(item: Mapping[str, Any]) -> bytes:
    if item and "body" not in item:
        # MMS takes forms apart, and says of a field neither its file name nor its place.
        raise UnsupportedMediaTypeError(f"Forms are not supported; expected {' or '.join(codecs.decodable())}.")
    body = item.get("body", b"")
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"a request's body must be bytes, not {type(body).__name__}; is the front end told to decode them?")


def _body_and_type(response: Any, accept: str) -> tuple[bytes, str]:
    content_type = None
    if isinstance(response, tuple) and len(response) == 2 and isinstance(response[1], str):
        response, content_type = response
    if isinstance(response, str):
        return response.encode(), content_type or preferred(accept) or TEXT_PLAIN
    if isinstance(response, (bytes, bytearray, memoryview)):
        return bytes(response), content_type or preferred(accept) or OCTET_STREAM
    return codecs.encode(response, content_type or accept)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"  # a status of the handler's own invention


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
