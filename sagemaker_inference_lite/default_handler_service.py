# SPDX-License-Identifier: Apache-2.0
"""The handler service for models that bring no other: preprocess, predict, postprocess.

MMS takes a module for a handler if it defines exactly one class that has ``initialize`` and ``handle``. This module
is one, and so is a module that defines one subclass; a second class here would break both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence, Set
from http import HTTPStatus
from pathlib import Path
from typing import Any, Callable

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.content_types import JSON, OCTET_STREAM, TEXT_PLAIN, accepts_anything, preferred
from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import ModelError, UnsupportedMediaTypeError
from sagemaker_inference_lite.handlers import frameworks, inference_script
from sagemaker_inference_lite.handlers.error_response import failure, refuse_stream
from sagemaker_inference_lite.handlers.forms import Form
from sagemaker_inference_lite.runtime import logs
from sagemaker_inference_lite.settings import Settings


class DefaultHandlerService:
    """Serves one model, by its own ``code/inference.py`` where that says how, and by defaults where it does not.

    A subclass may override `load`, `preprocess`, `predict`, `predict_batch` and `postprocess`, each alone.

    Args:
        settings: What the environment asks for. Where None is given, `initialize` reads os.environ, because MMS
            makes an instance without arguments.

    Attributes:
        settings: The settings in force; the defaults before `initialize` where none were given.
        initialized: Whether the model is loaded.
        model: What `load` returned.
        hooks: The functions of the model's program.
        context: The context of the call under way: in `preprocess`, `predict` and `postprocess` that of the one
            request, in `predict_batch` that of the requests whose data it is given.
    """

    # Here, because subclasses have constructors that do not call this one.
    settings = Settings()
    initialized = False
    model: Any = None
    hooks = inference_script.Hooks()
    context: Context
    _reads_environment = True
    _takes_batches = False
    _loaded_by = "load()"

    def __init__(self, settings: Settings | None = None) -> None:
        if settings is not None:
            self.settings = settings
            self._reads_environment = False

    # -- What MMS calls --

    def initialize(self, context: Context) -> None:
        """Loads the model. MMS calls it once, before any request.

        The program is imported, its pre_model_fn is called, then `load`, then its model_warmup_fn; the log says how
        long each took.

        Raises:
            ModelError: The model or its program cannot be loaded, or nothing could ever ask the model.
            SettingsError: The environment holds values that cannot be used.
            Exception: Whatever one of the program's functions raises.
        """
        if self._reads_environment:
            self.settings = Settings.from_environ(os.environ)
        self.context = context
        model_dir = str(context.system_properties["model_dir"])
        times = [time.monotonic()]
        self.hooks = inference_script.load(model_dir, self.settings.program)
        times.append(time.monotonic())
        if self.hooks.pre_model_fn:
            self.hooks.pre_model_fn(model_dir, context)
        self.model = self.load(model_dir)
        self._check_model(model_dir)
        times.append(time.monotonic())
        if self.hooks.model_warmup_fn:
            self.hooks.model_warmup_fn(model_dir, self.model, context)
        times.append(time.monotonic())
        self._takes_batches = self._has_predict_batch()
        self.initialized = True
        context.load_report = self._report(model_dir, times)

    def handle(self, data: Sequence[Mapping[str, Any]] | None, context: Context) -> list[bytes] | None:
        """Answers the requests of a batch, each with its own status, content type and error.

        A request that fails with a `RequestError` is answered with its status and a JSON body (`error_body`), and
        the others of the batch go on. Any other exception does the same with status 500, or 507 where memory ran out,
        and its traceback goes to the log. An instance that has not been initialized is, so that ``handle`` serves as
        a function too.

        Args:
            data: One mapping for each request, with its body under "body"; None in the first call of a function.
            context: MMS's context. Statuses and content types are set on it.

        Returns:
            One body for each request, in their order; None where data is None.
        """
        if not self.initialized:
            self.initialize(context)
            self.initialized = True  # a subclass that overrides it may not say so, and would load for each request
        if data is None:
            return None
        requests = [context.for_requests([place]) for place in range(len(data))]
        if self._takes_batches:
            answers = self._answer_together(requests, data, context)
        else:
            answers = self._each(self._answer, requests, data)
        self._answer_failures(answers, context)
        return [self._finish(request, *answer) for request, answer in zip(requests, answers)]

    def decodes_by_default(self) -> bool:
        """Whether the body of a request is decoded by the codecs, and by nothing of the author's."""
        is_own = type(self).preprocess is not DefaultHandlerService.preprocess
        return not (is_own or self.hooks.input_fn or self.hooks.transform_fn)

    # -- What a subclass may override --

    def load(self, model_dir: str) -> Any:
        """Loads the model: by the program's model_fn, or else the one file that `frameworks.load` finds.

        Args:
            model_dir: The model's directory.

        Returns:
            The model, as `predict` will get it.

        Raises:
            ModelError: There is neither, or the file cannot be read; the message says what was looked for and where.
        """
        if self.hooks.model_fn:
            self._loaded_by = "model_fn"
            return self.hooks.model_fn(model_dir, self.context)
        program, state = self._program(model_dir, "defines no model_fn")
        environ = os.environ if self._reads_environment else {}
        path, kind = frameworks.only_file(Path(model_dir), f"{program} {state}")
        self._loaded_by = path.name
        return frameworks.load_file(path, kind, self.context.gpu_id, environ)

    def preprocess(self, body: bytes, content_type: str) -> Any:
        """Makes the model's input of a request's body: by the program's input_fn, or else `codecs.decode`.

        An input_fn gets text where the body is JSON or CSV, as with AWS's toolkit; ``context.raw_body`` has the bytes.

        Args:
            body: The body as it came.
            content_type: The Content-Type header; application/json where there was none, which is what clients of
                SageMaker send most (RFC 9110, section 8.3, leaves the choice to the recipient).

        Raises:
            ClientError: The body cannot be decoded.
        """
        if self.hooks.input_fn:
            return self.hooks.input_fn(codecs.as_text(body, content_type), content_type, self.context)
        return codecs.decode(body, content_type)

    def predict(self, data: Any, model: Any) -> Any:
        """Asks the model: by the program's predict_fn, or else as `frameworks.predict` does.

        Args:
            data: What `preprocess` returned.
            model: What `load` returned.

        Raises:
            TypeError: The model is of no kind that can be asked.
        """
        if self.hooks.predict_fn:
            return self.hooks.predict_fn(data, model, self.context)
        return frameworks.predict(data, model)

    def predict_batch(self, data: list[Any], model: Any) -> Sequence[Any]:
        """Asks the model for several requests at once: by the program's predict_batch_fn, or else `predict` for each.

        It is called where a subclass overrides it, or the program has a predict_batch_fn, with as many requests as
        MMS puts into a batch (``batch_size`` and ``max_batch_delay`` of POST /models), one included. Requests that
        `preprocess` refused are not among them.

        Args:
            data: What `preprocess` returned for each request.
            model: What `load` returned.

        Returns:
            One prediction for each element of data, in their order. An exception in place of a prediction, such as
            ``ClientError(422, "...")``, is that request's error; one that is raised is the error of all.
        """
        if self.hooks.predict_batch_fn:
            return self.hooks.predict_batch_fn(data, model, self.context)  # type: ignore[return-value] # checked later
        return [self.predict(each, model) for each in data]

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
            ServerError: 500. The prediction is a generator.
        """
        if self.hooks.output_fn:
            return self.hooks.output_fn(prediction, accept, self.context)
        refuse_stream(prediction)
        return codecs.encode(prediction, accept)

    def _program(self, model_dir: str, state: str) -> tuple[str, str]:
        """The model's program, and its state: the one that is given where there is such a file."""
        path = inference_script.program_path(model_dir, self.settings.program)
        return path, state if os.path.isfile(path) else "is not there"

    def _report(self, model_dir: str, times: Sequence[float]) -> str:
        """What was done and how long it took, for the line of log that says that the model is loaded."""
        imported, loaded, warmed_up = (1000 * (after - before) for before, after in zip(times, times[1:]))
        program, state = self._program(model_dir, "")
        steps = [f"{os.path.relpath(program, model_dir)} {state or f'imported in {imported:.0f} ms'}"]
        steps.append(f"{self._loaded_by} took {loaded:.0f} ms")
        steps += [f"warmed up in {warmed_up:.0f} ms"] if self.hooks.model_warmup_fn else []
        return ", ".join(steps)

    def _check_model(self, model_dir: str) -> None:
        """A model that no request could be answered with is not loaded."""
        if self._asks_in_its_own_way():
            return
        reason = frameworks.why_mute(self.model)
        if reason:
            path = inference_script.program_path(model_dir, self.settings.program)
            raise ModelError(
                f"The model in {model_dir} can answer no request: {reason}. Expected a model that can be asked, or a "
                f"predict_fn(data, model) in {path}."
            )

    def _asks_in_its_own_way(self) -> bool:
        hooks = self.hooks
        default = all(
            getattr(getattr(self, name), "__func__", None) is getattr(DefaultHandlerService, name)
            for name in ("handle", "predict", "predict_batch")
        )
        return bool(hooks.predict_fn or hooks.predict_batch_fn or hooks.transform_fn) or not default

    # -- The steps: a request whose step raised has the exception in place of a value from then on --

    def _has_predict_batch(self) -> bool:
        if self.hooks.transform_fn:
            return False
        is_overridden = type(self).predict_batch is not DefaultHandlerService.predict_batch
        return is_overridden or self.hooks.predict_batch_fn is not None

    def _each(self, step: Callable[[Any], Any], requests: Sequence[Context], values: Sequence[Any]) -> list[Any]:
        return [self._attempt(step, request, value) for request, value in zip(requests, values)]

    def _attempt(self, step: Callable[[Any], Any], request: Context, value: Any) -> Any:
        if isinstance(value, BaseException):
            return value
        self.context = request
        logs.belong_to(request)
        try:
            return step(value)
        except KeyboardInterrupt:
            raise  # of a person who tries the service by hand
        except BaseException as error:  # SystemExit, a cancelled task, a panic in Rust: others of the batch go on
            return error

    def _answer(self, item: Mapping[str, Any]) -> tuple[bytes, str]:
        if self.hooks.transform_fn:
            return self._transform(item)
        return self._write(self.predict(self._read(item), self.model))

    def _answer_together(
        self, requests: Sequence[Context], items: Sequence[Mapping[str, Any]], context: Context
    ) -> list[Any]:
        values = self._each(self._read, requests, items)
        places = [place for place, value in enumerate(values) if not isinstance(value, BaseException)]
        batch = [values[place] for place in places]
        results = self._attempt(self._predict_together, context.for_requests(places), batch)
        for index, place in enumerate(places):
            values[place] = results if isinstance(results, BaseException) else results[index]
        return self._each(self._write, requests, values)

    def _read(self, item: Mapping[str, Any]) -> Any:
        return self.preprocess(_body(item), self._content_type())

    def _predict_together(self, data: list[Any]) -> list[Any]:
        if not data:
            return []
        predictions = self.predict_batch(data, self.model)
        refuse_stream(predictions)
        is_sequence = _is_sequence(predictions)
        if not is_sequence or len(predictions) != len(data):
            found = f"a {type(predictions).__name__}" + (f" of {len(predictions)}" if is_sequence else "")
            raise TypeError(f"a batch of {len(data)} must be answered with a sequence of as many, not with {found}")
        return list(predictions)

    def _write(self, prediction: Any) -> tuple[bytes, str]:
        accept = self._accept()
        return self._body_and_type(self.postprocess(prediction, accept), accept)

    def _transform(self, item: Mapping[str, Any]) -> tuple[bytes, str]:
        content_type, accept = self._content_type(), self._accept()
        assert self.hooks.transform_fn is not None
        body = codecs.as_text(_body(item), content_type)
        response = self.hooks.transform_fn(self.model, body, content_type, accept, self.context)
        return self._body_and_type(response, accept)

    def _content_type(self) -> str:
        return self.context.get_request_header(0, "Content-Type") or JSON

    def _accept(self) -> str:
        accept: str | None = self.context.get_request_header(0, "Accept")
        return self.settings.default_invocations_accept if accepts_anything(accept) else accept or JSON

    def _body_and_type(self, response: Any, accept: str) -> tuple[bytes, str]:
        content_type = self.context.get_response_content_type(0)
        if isinstance(response, tuple) and len(response) == 2 and isinstance(response[1], str):
            response, content_type = response
        if isinstance(response, str):
            return response.encode(), content_type or preferred(accept) or TEXT_PLAIN
        if isinstance(response, (bytes, bytearray, memoryview)):
            return bytes(response), content_type or preferred(accept) or OCTET_STREAM
        refuse_stream(response)
        return codecs.encode(response, content_type or accept)

    def _answer_failures(self, answers: list[Any], context: Context) -> None:
        """Puts bodies in place of exceptions and sets their statuses; one that requests share is logged once."""
        errors = {id(answer): answer for answer in answers if isinstance(answer, BaseException)}
        for error in errors.values():
            places = [place for place, answer in enumerate(answers) if answer is error]
            failed = context.for_requests(places)
            logs.belong_to(failed)
            status, body = failure(
                error,
                failed,
                max_bytes=self.settings.max_payload_bytes,
                expose_traceback=self.settings.expose_tracebacks,
            )
            for place in places:
                context.set_response_status(status, _phrase(status), place)
                _forget_content(context.get_response_headers(place))
                answers[place] = body, JSON

    @staticmethod
    def _finish(request: Context, body: bytes, content_type: str) -> bytes:
        request.set_response_content_type(0, content_type)
        return body


def _body(item: Mapping[str, Any]) -> bytes:
    if isinstance(item, Form):
        # MMS takes forms apart, and says of a field neither its file name nor its place. It is not even looked at.
        raise UnsupportedMediaTypeError(f"Forms are not supported; expected {' or '.join(codecs.decodable())}.")
    body = item.get("body", b"")
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"a request's body must be bytes, not {type(body).__name__}; is the front end told to decode them?")


def _is_sequence(value: object) -> bool:
    """Whether a value has an order and an element for each place. A table has columns where rows are meant."""
    is_another = isinstance(value, (str, bytes, bytearray, memoryview, Mapping, Set)) or hasattr(value, "columns")
    return hasattr(value, "__len__") and not is_another


def _forget_content(headers: dict[str, str]) -> None:
    """Removes what a function said of its own body (RFC 9110, section 8) and does not hold for an error's."""
    for name in [name for name in headers if name.lower().startswith("content-")]:
        del headers[name]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"  # a status of the handler's own invention
