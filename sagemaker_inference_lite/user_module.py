# SPDX-License-Identifier: Apache-2.0
"""A model's own program, ``code/inference.py``: finding it, importing it, and the functions (hooks) it defines.

The program may define any of these, each with or without a last parameter ``context``:

    model_fn(model_dir)            -> model
    input_fn(body, content_type)   -> data
    predict_fn(data, model)        -> prediction
    output_fn(prediction, accept)  -> response

Each model is loaded in a process of its own, so a load may change sys.path, and does: the model's ``code`` directory
comes first, for the modules that lie beside the program.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.python_file import import_file

CODE_DIRECTORY = "code"

# The functions that a program may define, and their arguments before the context.
_ARGUMENTS = {
    "model_fn": ("model_dir",),
    "input_fn": ("body", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
}

# Functions that the AWS toolkits know as well. A program that counts on one would answer wrongly without it.
_NOT_CALLED = ("transform_fn", "pre_model_fn", "model_warmup_fn")


@dataclass(frozen=True)
class Hooks:
    """A program's functions, None for each that it does not define.

    Whatever the program's own signatures, each is called here with its arguments and then the context:
    ``hooks.predict_fn(data, model, context)``.
    """

    model_fn: Callable[[str, Context], object] | None = None
    input_fn: Callable[[bytes, str, Context], object] | None = None
    predict_fn: Callable[[object, object, Context], object] | None = None
    output_fn: Callable[[object, str, Context], object] | None = None


def load(model_dir: str, program: str = "inference.py") -> Hooks:
    """Imports a model's program and checks its functions.

    The program becomes a module under a name made of its whole path, so that the programs of two models, which are
    both called inference.py, never meet.

    Args:
        model_dir: The model's directory.
        program: The program's path within ``code``, with or without ".py".

    Returns:
        Its functions; none where there is no such file.

    Raises:
        ModelError: It cannot be imported (the cause is chained), a function has another signature than the one
            above, or it defines a function of the AWS toolkits that would not be called. The message names the file,
            and the function with what was found and what was expected.
    """
    directory = Path(model_dir, CODE_DIRECTORY).absolute()
    path = program_path(model_dir, program)
    if directory.is_dir():
        _put_first_on_path(str(directory))
    if not path.is_file():
        return Hooks()
    module = _import(path)
    _refuse_others(module, path)
    return Hooks(**{name: _hook(module, name, path) for name in _ARGUMENTS})


def program_path(model_dir: str, program: str = "inference.py") -> Path:
    """Where a model's program is, if it has one: an absolute path."""
    name = program if program.endswith(".py") else program + ".py"
    return Path(model_dir, CODE_DIRECTORY, name).absolute()


def _put_first_on_path(directory: str) -> None:
    if directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(0, directory)


def _import(path: Path) -> ModuleType:
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    try:
        return import_file(name, path)
    # A program that calls sys.exit() while it is imported has failed to load, and must say so.
    except (Exception, SystemExit) as error:
        raise ModelError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def _refuse_others(module: ModuleType, path: Path) -> None:
    for name in _NOT_CALLED:
        if hasattr(module, name):
            known = ", ".join(_ARGUMENTS)
            raise ModelError(f"{path} defines {name}, which this version does not call; it calls {known}.")


def _hook(module: ModuleType, name: str, path: Path) -> Callable[..., object] | None:
    function = getattr(module, name, None)
    if function is None:
        return None
    expected = f"expected a function {name}({', '.join(_ARGUMENTS[name])}), with or without a last parameter context"
    if not callable(function) or inspect.iscoroutinefunction(function):
        kind = "coroutine function" if callable(function) else type(function).__name__
        raise ModelError(f"{name} in {path} is a {kind}; {expected}.")
    try:
        return _with_context(function, len(_ARGUMENTS[name]))
    except _SignatureError as error:
        raise ModelError(f"{name}{error} in {path} has the wrong parameters; {expected}.") from None


class _SignatureError(Exception):
    """A function cannot be called as its hook is; the text is its signature."""


def _with_context(function: Callable[..., object], count: int) -> Callable[..., object]:
    """Makes a function that takes count arguments, and perhaps a context, take both."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, and says nothing of its parameters
        return lambda *arguments: function(*arguments[:-1])
    parameters = list(signature.parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    is_last = len(positional) > count and _is_context(positional[count])
    is_keyword = any(each.name == "context" and each.kind is each.KEYWORD_ONLY for each in parameters)
    try:
        signature.bind(*range(count + is_last), **{"context": None} if is_keyword else {})
    except TypeError:
        raise _SignatureError(str(signature)) from None
    if is_last:
        return function
    if is_keyword:
        return lambda *arguments: function(*arguments[:-1], context=arguments[-1])
    return lambda *arguments: function(*arguments[:-1])


def _is_context(parameter: inspect.Parameter) -> bool:
    """Whether the parameter behind a hook's own is the context, rather than an option such as threshold=0.5."""
    return parameter.name == "context" or parameter.default is parameter.empty or parameter.default is None
