# SPDX-License-Identifier: Apache-2.0
"""A model's own program, ``code/inference.py``: finding it, importing it, and the functions (hooks) it defines.

Where there is none, ``inference.py`` at the top of the model's directory is it: there version 3 of the SageMaker SDK
puts it for Multi Model Server.

The program may define any of these, each with or without a last parameter ``context``:

    pre_model_fn(model_dir)                              called before the model is loaded
    model_fn(model_dir)                  -> model
    model_warmup_fn(model_dir, model)                    called once the model is loaded, before any request
    input_fn(body, content_type)         -> data
    predict_fn(data, model)              -> prediction
    predict_batch_fn(list_of_data, model) -> predictions  in place of predict_fn
    output_fn(prediction, accept)        -> response
    transform_fn(model, body, content_type, accept) -> response  in place of the four before it

Each model is loaded in a process of its own, so a load may change sys.path, and does: the model's ``code`` directory
comes first, for the modules that lie beside the program.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Union

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers.hints import how_to_add
from sagemaker_inference_lite.handlers.import_path import import_by_own_name, import_file, is_of_file, put_first_on_path
from sagemaker_inference_lite.runtime import fork_guard, tracebacks
from sagemaker_inference_lite.runtime.printable import named

CODE_DIRECTORY = "code"

# What the standard library's module of that name is called beside a package code/.
_STANDARD = "_code_of_the_standard_library"

# The functions that a program may define, and their arguments before the context.
_ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "input_fn": ("body", "content_type"),
    "predict_fn": ("data", "model"),
    "predict_batch_fn": ("list_of_data", "model"),
    "output_fn": ("prediction", "accept"),
    "transform_fn": ("model", "body", "content_type", "accept"),
}

# Functions that take the place of others, which would then never be called.
_INSTEAD = {
    "transform_fn": ("input_fn", "predict_fn", "predict_batch_fn", "output_fn"),
    "predict_batch_fn": ("predict_fn",),
}

Text = Union[bytes, str]


@dataclass(frozen=True)
class Hooks:
    """A program's functions, None for each that it does not define.

    Whatever the program's own signatures, each is called here with its arguments and then the context:
    ``hooks.predict_fn(data, model, context)``.
    """

    pre_model_fn: Callable[[str, Context], object] | None = None
    model_fn: Callable[[str, Context], object] | None = None
    model_warmup_fn: Callable[[str, object, Context], object] | None = None
    input_fn: Callable[[Text, str, Context], object] | None = None
    predict_fn: Callable[[object, object, Context], object] | None = None
    predict_batch_fn: Callable[[list[object], object, Context], object] | None = None
    output_fn: Callable[[object, str, Context], object] | None = None
    transform_fn: Callable[[object, Text, str, str, Context], object] | None = None


def load(model_dir: str, program: str = "inference.py") -> Hooks:
    """Imports a model's program and checks its functions.

    The program is the module that its file says, ``inference``: so the modules beside it, pickles of its classes and
    interpreters that it starts find it. Each model has a process of its own, so the programs of two never meet; and a
    module of that name that the handler has imported from elsewhere is forgotten. Only where a module of the standard
    library or of an installed package has been imported under that name, the program has a longer one. Where
    its directory is a package (it holds ``__init__.py``), the program is ``code.inference`` as well, and relative
    imports work.

    Args:
        model_dir: The model's directory.
        program: The program's path within ``code``, with or without ".py".

    Returns:
        Its functions; none where there is no such file.

    Raises:
        ModelError: It cannot be imported (the cause is chained), a function has another signature than the one
            above, or two functions are defined of which one would never be called. The message names the file,
            and the function with what was found and what was expected.
    """
    code = os.path.abspath(os.path.join(model_dir, CODE_DIRECTORY))
    path = program_path(model_dir, program)
    if os.path.isdir(code):
        put_first_on_path(code)
    if not os.path.isfile(path):
        return Hooks()
    if os.path.dirname(path) == os.path.abspath(model_dir):
        put_first_on_path(model_dir)
    module = _import(path, code)
    hooks = Hooks(**{name: _hook(module, name, path) for name in _ARGUMENTS})
    _check_none_is_idle(hooks, path)
    return hooks


def program_path(model_dir: str, program: str = "inference.py") -> str:
    """Where a model's program is, if it has one: an absolute path.

    That is in ``code``, or else at the top of the model's directory; where it is in neither, the first of the two.
    """
    name = program if program.endswith(".py") else program + ".py"
    places = [os.path.abspath(os.path.join(model_dir, *below, name)) for below in ([CODE_DIRECTORY], [])]
    return next(filter(os.path.isfile, places), places[0])


def _import(path: str, code: str) -> ModuleType:
    try:
        return _import_program(path, code)
    # A program that calls sys.exit() while it is imported has failed to load, and must say so.
    except (Exception, SystemExit) as error:
        fork_guard.end_if_forked(error)
        place = tracebacks.place_of(error)
        where = "" if isinstance(error, SyntaxError) or not place else f" ({place})"
        hint = f". {how_to_add(error.name)}" if isinstance(error, ModuleNotFoundError) and error.name else ""
        raise ModelError(f"{path} cannot be imported: {named(error)}{where}{hint}") from error


def _import_program(path: str, code: str) -> ModuleType:
    dotted = _dotted(path, code)
    if dotted and _is_package(code):
        return _import_from_package(path, code, dotted)
    if "." in dotted and _finds(dotted, path):
        return importlib.import_module(dotted)
    return import_by_own_name(path)


def _is_package(directory: str) -> bool:
    return os.path.isfile(os.path.join(directory, "__init__.py"))


def _dotted(path: str, code: str) -> str:
    """The name under which imports find a program with its ``code`` directory on sys.path; "" for one elsewhere."""
    directory = os.path.join(code, "")
    return path[len(directory) : -len(".py")].replace(os.sep, ".") if path.startswith(directory) else ""


def _finds(name: str, path: str) -> bool:
    """Whether an import of that name finds the file; where a directory of it is called as a package is, none does."""
    if _is_package(os.path.dirname(path)):
        return True  # then it cannot be imported as anything else, and an error says why not
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(path)


def _import_from_package(path: str, code: str, dotted: str) -> ModuleType:
    """Imports a program of the package ``code``, which the modules beside it find under its own name as well."""
    own_names = [] if "." in dotted else [dotted]
    if own_names and is_of_file(sys.modules.get(dotted), path):
        return sys.modules[dotted]
    _import_package(code)
    package, _, name = f"{CODE_DIRECTORY}.{dotted}".rpartition(".")
    parent = importlib.import_module(package)
    module = import_file(f"{package}.{name}", path, also=[each for each in own_names if each not in sys.modules])
    setattr(parent, name, module)
    return module


def _import_package(code: str) -> None:
    """Imports the code directory as the package ``code``.

    Interpreters that this one starts find it under no other name. It is also that of a module of the standard library,
    whose functions the package has where it defines none of that name: pdb needs them, which torch imports.
    """
    if hasattr(sys.modules.get(CODE_DIRECTORY), "__path__"):  # of another model, in a process that has loaded two
        for name in [name for name in sys.modules if name.startswith(f"{CODE_DIRECTORY}.")]:
            del sys.modules[name]
    package = import_file(CODE_DIRECTORY, os.path.join(code, "__init__.py"), package_path=[code])
    source = os.path.join(os.path.dirname(os.__file__), "code.py")
    if os.path.isfile(source):
        standard = import_file(_STANDARD, source)
        for name in standard.__all__:
            vars(package).setdefault(name, getattr(standard, name))


def _check_none_is_idle(hooks: Hooks, path: str) -> None:
    for name, others in _INSTEAD.items():
        idle = [other for other in others if getattr(hooks, other)]
        if getattr(hooks, name) and idle:
            raise ModelError(
                f"{path} defines {name} beside {' and '.join(idle)}, which would never be called: {name} takes the "
                f"place of {', '.join(others)}. Expected one or the other."
            )


def _hook(module: ModuleType, name: str, path: str) -> Callable[..., object] | None:
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
    if _takes_exactly(function, count):
        return lambda *arguments: function(*arguments[:-1])
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, and says nothing of its parameters
        return lambda *arguments: function(*arguments[:-1])
    parameters = list(signature.parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if any(each.name == "context" for each in positional[:count]):
        raise _SignatureError(str(signature))
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


def _takes_exactly(function: Callable[..., object], count: int) -> bool:
    """Whether it is a plain function with so many parameters, as nearly all are: to ask inspect takes 0.2 MB."""
    if not isinstance(function, FunctionType) or vars(function):  # which say what function it wraps, or its signature
        return False
    code = function.__code__
    has_more = code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return not has_more and code.co_argcount == count and "context" not in code.co_varnames[:count]


def _is_context(parameter: inspect.Parameter) -> bool:
    """Whether the parameter behind a hook's own is the context, rather than an option such as threshold=0.5."""
    return parameter.name == "context" or parameter.default is parameter.empty or parameter.default is None
