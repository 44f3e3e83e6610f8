# SPDX-License-Identifier: Apache-2.0
"""A model's own program: found, imported apart from those of others, and its functions checked."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import ModelError
from sagemaker_inference_lite.handlers import inference_script
from sagemaker_inference_lite.handlers.import_path import import_by_own_name
from sagemaker_inference_lite.handlers.inference_script import Hooks

CONTEXT = Context("model", "/nowhere")
NAMES = ("model_fn", "input_fn", "predict_fn", "output_fn")

pytestmark = pytest.mark.usefixtures("modules_as_they_were")


def write(model_dir: Path, text: str, program: str = "inference.py") -> Path:
    """Writes a model's program, and returns where it is."""
    path = model_dir / "code" / program
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def load(model_dir: Path, text: str) -> Hooks:
    """Loads a program with that text."""
    write(model_dir, text)
    return inference_script.load(str(model_dir))


def refusal(model_dir: Path, text: str) -> str:
    """The message of the ModelError that a program with that text is refused with."""
    with pytest.raises(ModelError) as caught:
        load(model_dir, text)
    assert str(model_dir / "code" / "inference.py") in str(caught.value)
    return str(caught.value)


def test_a_model_without_a_program_has_no_functions(tmp_path: Path) -> None:
    """Where there is no such file, or no code directory, all functions are None and nothing is imported."""
    assert inference_script.load(str(tmp_path)) == Hooks()
    write(tmp_path, "raise RuntimeError", program="other.py")
    assert inference_script.load(str(tmp_path)) == Hooks()


def test_each_function_is_optional(tmp_path: Path) -> None:
    """A program has the functions that it defines, and None for each other, and for one that it sets to None."""
    hooks = load(tmp_path, "def predict_fn(data, model): return data + model\noutput_fn = None")
    assert [name for name in NAMES if getattr(hooks, name)] == ["predict_fn"]
    assert hooks.predict_fn is not None
    assert hooks.predict_fn(1, 2, CONTEXT) == 3


def test_functions_get_the_context_if_they_take_it(tmp_path: Path) -> None:
    """A last parameter is the context, whatever its name; functions without one are called without it."""
    hooks = load(
        tmp_path,
        """
        def model_fn(model_dir, context): return model_dir, context
        def input_fn(body, content_type, ctx=None): return body, content_type, ctx
        def predict_fn(data, model, *, context): return data, model, context
        def output_fn(prediction, accept): return prediction, accept
        """,
    )
    assert hooks.model_fn is not None
    assert hooks.input_fn is not None
    assert hooks.predict_fn is not None
    assert hooks.output_fn is not None
    assert hooks.model_fn("d", CONTEXT) == ("d", CONTEXT)
    assert hooks.input_fn(b"b", "t", CONTEXT) == (b"b", "t", CONTEXT)
    assert hooks.predict_fn("x", "m", CONTEXT) == ("x", "m", CONTEXT)
    assert hooks.output_fn("p", "a", CONTEXT) == ("p", "a")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("def predict_fn(data, model, threshold=0.5): return threshold", 0.5),
        ("def predict_fn(data, model, context='none'): return context", CONTEXT),
        ("def predict_fn(data, model, context, threshold=0.5): return context", CONTEXT),
        ("def predict_fn(data, model=None): return model", "model"),
        ("def predict_fn(*arguments): return len(arguments)", 2),
        ("def predict_fn(data, model, **options): return len(options)", 0),
        ("class Predict:\n  def __call__(self, data, model): return model\npredict_fn = Predict()", "model"),
        ("predict_fn = lambda data, model: model", "model"),
        ("import functools, operator\npredict_fn = functools.partial(lambda a, data, model: a, 7)", 7),
        ("import operator\npredict_fn = operator.is_", False),
        ("predict_fn = max", "model"),
    ],
)
def test_signatures_that_fit_are_taken(tmp_path: Path, function: str, expected: object) -> None:
    """Options with a default of their own are not the context, and anything that can be called may be a function."""
    hooks = load(tmp_path, function)
    assert hooks.predict_fn is not None
    assert hooks.predict_fn("data", "model", CONTEXT) == expected


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("def predict_fn(data): pass", "predict_fn(data) in "),
        ("def predict_fn(): pass", "predict_fn() in "),
        ("def predict_fn(data, model, context, more): pass", "predict_fn(data, model, context, more) in "),
        ("def predict_fn(data, model, *, option): pass", "predict_fn(data, model, *, option) in "),
        ("def predict_fn(context, data, model): pass", "predict_fn(context, data, model) in "),
        ("def predict_fn(data, context): pass", "predict_fn(data, context) in "),
        ("predict_fn = 5", "predict_fn in "),
        ("async def predict_fn(data, model): pass", "is a coroutine function"),
    ],
)
def test_signatures_that_do_not_fit_are_named(tmp_path: Path, function: str, found: str) -> None:
    """A function that cannot be called as its hook is refused at load, with what was found and what was expected."""
    message = refusal(tmp_path, function)
    assert found in message
    assert "expected a function predict_fn(data, model), with or without a last parameter context" in message


def test_an_import_that_fails_names_the_file_and_the_cause(tmp_path: Path) -> None:
    """Whatever a program raises while it is imported is chained, and the module is forgotten."""
    before = set(sys.modules)
    with pytest.raises(ModelError) as caught:
        load(tmp_path, "import no_such_module_anywhere")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert str(tmp_path / "code" / "inference.py") in str(caught.value)
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in str(caught.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("text", "kind"),
    [("def f(:", "SyntaxError"), ("1/0", "ZeroDivisionError"), ("import sys; sys.exit(3)", "SystemExit: 3")],
)
def test_any_failure_to_import_is_a_model_error(tmp_path: Path, text: str, kind: str) -> None:
    """Programs that are no Python, that raise and that exit have failed to load alike."""
    assert kind in refusal(tmp_path, text)


def test_two_models_never_meet(tmp_path: Path) -> None:
    """Programs of the same name in two directories are two modules, each of its file's name, and keep their state."""
    program = "count = []\ndef model_fn(model_dir): count.append(model_dir); return ' '.join([__name__, *count])"
    first, second = load(tmp_path / "a", program).model_fn, load(tmp_path / "b", program).model_fn
    assert first is not None
    assert second is not None
    assert [first("a", CONTEXT), second("b", CONTEXT)] == ["inference a", "inference b"]
    assert sys.modules["inference"].__file__ == str(tmp_path / "b" / "code" / "inference.py")


def test_a_module_beside_the_program_imports_it(tmp_path: Path) -> None:
    """``from inference import ...`` in a module that the program imports is the program, and no second copy of it."""
    write(tmp_path, "import inference\nfrom inference import FIRST\ndef late(): return inference.LAST", "helper.py")
    hooks = load(tmp_path, "FIRST = []\nimport helper\nLAST = []\ndef model_fn(d): return helper, FIRST, LAST")
    assert hooks.model_fn is not None
    found: Any = hooks.model_fn("", CONTEXT)
    helper, first, last = found
    assert helper.FIRST is first
    assert helper.late() is last


def test_a_program_that_is_imported_already_is_not_again(tmp_path: Path) -> None:
    """Where the handler has imported the file, as the program of its one model, that is the module."""
    path = write(tmp_path, "def model_fn(d): return __name__")
    module = import_by_own_name(path)
    hooks = inference_script.load(str(tmp_path))
    assert sys.modules["inference"] is module
    assert hooks.model_fn is not None


@pytest.mark.parametrize("name", ["json", "numpy", "time"])
def test_the_name_of_a_module_that_stays(tmp_path: Path, name: str) -> None:
    """A program that is called as a module of the standard library or of a package keeps out of its way."""
    before = importlib.import_module(name)
    write(tmp_path, f"import {name} as found\ndef model_fn(d): return __name__, found", f"{name}.py")
    hooks = inference_script.load(str(tmp_path), f"{name}.py")
    assert hooks.model_fn is not None
    answer: Any = hooks.model_fn("", CONTEXT)
    own_name, found = answer
    assert own_name.startswith(f"{name}_")
    assert found is sys.modules[name] is before


def test_modules_beside_the_program_can_be_imported(tmp_path: Path) -> None:
    """The code directory comes first on sys.path, before what has the same name elsewhere."""
    write(tmp_path, "VALUE = 'beside'", program="wave.py")
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "wave.py").write_text("VALUE = 'elsewhere'")
    hooks = load(tmp_path, "import wave\ndef model_fn(model_dir): return wave.VALUE")
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == "beside"
    assert sys.path[0] == str(tmp_path / "code")
    inference_script.load(str(tmp_path))
    assert sys.path.count(str(tmp_path / "code")) == 1


def test_the_code_directory_counts_without_a_program(tmp_path: Path) -> None:
    """Modules in it can be imported where there is no program, for a model file that was made with them."""
    write(tmp_path, "", program="only_helpers.py")
    inference_script.load(str(tmp_path))
    assert sys.path[0] == str(tmp_path / "code")


def test_classes_of_a_program_can_be_pickled_and_made_dataclasses(tmp_path: Path) -> None:
    """The module is known under its name while it is imported and afterwards, as pickle and dataclasses need."""
    hooks = load(
        tmp_path,
        """
        from __future__ import annotations
        import dataclasses, pickle

        @dataclasses.dataclass
        class Point:
            x: int

        def model_fn(model_dir): return pickle.loads(pickle.dumps(Point(3))).x
        """,
    )
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == 3


@pytest.mark.parametrize("program", ["serve.py", "serve", "deep/serve.py"])
def test_the_program_may_have_another_name(tmp_path: Path, program: str) -> None:
    """The program is the file that is named, with or without .py, below the code directory."""
    write(tmp_path, "def model_fn(model_dir): return 'served'", program.replace(".py", "") + ".py")
    hooks = inference_script.load(str(tmp_path), program)
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == "served"


def test_a_relative_model_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory is the same model as the absolute one, and stays on sys.path when the directory changes."""
    write(tmp_path / "m", "")
    monkeypatch.chdir(tmp_path)
    inference_script.load("m")
    assert sys.path[0] == str(tmp_path / "m" / "code")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pre_model_fn", ("d",)),
        ("model_warmup_fn", ("d", "m")),
        ("predict_batch_fn", (["a"], "m")),
        ("transform_fn", ("m", b"b", "t", "a")),
    ],
)
@pytest.mark.parametrize("takes_context", [True, False])
def test_the_other_functions(tmp_path: Path, name: str, arguments: tuple[object, ...], takes_context: bool) -> None:
    """Each function is called with the arguments that are documented, and with the context if it takes one."""
    parameters = ", ".join("abcd"[: len(arguments)])
    hooks = load(
        tmp_path,
        f"def {name}({parameters}{', context' * takes_context}): return {parameters}{', context' * takes_context},",
    )
    assert getattr(hooks, name)(*arguments, CONTEXT) == arguments + (CONTEXT,) * takes_context


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("transform_fn", ("input_fn",)),
        ("transform_fn", ("predict_fn", "output_fn")),
        ("transform_fn", ("predict_batch_fn",)),
        ("predict_batch_fn", ("predict_fn",)),
    ],
)
def test_functions_that_exclude_each_other(tmp_path: Path, name: str, others: tuple[str, ...]) -> None:
    """Two functions of which one would never be called are refused at load, and both are named."""
    text = "".join(f"def {each}(*_): ...\n" for each in (name, *others))
    assert f"defines {name} beside {' and '.join(others)}, which would never be called" in refusal(tmp_path, text)


# -- Packages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "packages"),
    [
        ("inference", [""]),
        ("serve/inference", ["serve"]),
        ("serve/inference", ["", "serve"]),
        ("a/b/inference", ["a", "a/b"]),
    ],
)
def test_relative_imports_work_in_a_package(tmp_path: Path, program: str, packages: list[str]) -> None:
    """Where the program lies in a package, the code directory or one below it, it imports its neighbours relatively."""
    for package in packages:
        write(tmp_path, f"NAME = {package!r}", f"{package}/__init__.py".lstrip("/"))
    write(tmp_path, "VALUE = 'relative'", f"{program.rpartition('/')[0]}/neighbour.py".lstrip("/"))
    write(
        tmp_path,
        """
        from . import NAME
        from .neighbour import VALUE
        def model_fn(model_dir): return NAME, VALUE
        """,
        f"{program}.py",
    )
    hooks = inference_script.load(str(tmp_path), program)
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == (packages[-1], "relative")


def test_a_package_called_code_leaves_the_standard_library_s_alone(tmp_path: Path) -> None:
    """The code directory as a package has a name of its own: the module code is still Python's."""
    write(tmp_path, "", "__init__.py")
    hooks = load(tmp_path, "import code\ndef model_fn(model_dir): return code.InteractiveConsole.__name__")
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == "InteractiveConsole"


def test_the_program_of_a_package_has_its_own_name_too(tmp_path: Path) -> None:
    """In a package code/ the program is ``code.inference``, and ``inference`` for the modules beside it."""
    write(tmp_path, "", "__init__.py")
    write(tmp_path, "import inference", "helper.py")
    hooks = load(tmp_path, "from . import helper\ndef model_fn(d): return helper.inference, __name__")
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == (sys.modules["code.inference"], "code.inference")
    assert sys.modules["inference"] is sys.modules["code.inference"] is sys.modules["code"].inference


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    """An error in __init__.py is an error of the load."""
    write(tmp_path, "1/0", "__init__.py")
    assert "ZeroDivisionError" in refusal(tmp_path, "")


def test_packages_of_two_models_never_meet(tmp_path: Path) -> None:
    """Two models whose programs lie in packages of one name each get their own."""
    for name in ("a", "b"):
        write(tmp_path / name, "", "serve/__init__.py")
        write(tmp_path / name, f"VALUE = {name!r}", "serve/values.py")
        write(tmp_path / name, "from .values import VALUE\ndef model_fn(d): return VALUE", "serve/inference.py")
        hooks = inference_script.load(str(tmp_path / name), "serve/inference.py")
        assert hooks.model_fn is not None
        assert hooks.model_fn("", CONTEXT) == name


def test_a_program_may_lie_elsewhere(tmp_path: Path) -> None:
    """An absolute path is taken as it is, packages around it notwithstanding."""
    (tmp_path / "__init__.py").touch()
    (tmp_path / "serve.py").write_text("def model_fn(model_dir): return 'elsewhere'")
    hooks = inference_script.load(str(tmp_path / "model"), str(tmp_path / "serve.py"))
    assert hooks.model_fn is not None
    assert hooks.model_fn("", CONTEXT) == "elsewhere"


def test_a_program_at_the_top(tmp_path: Path) -> None:
    """inference.py at the top of the model's directory is its program, and finds what lies beside it."""
    (tmp_path / "beside_the_program.py").write_text("FACTOR = 3\n")
    (tmp_path / "inference.py").write_text(
        "from beside_the_program import FACTOR\n\ndef predict_fn(data, model):\n    return data * FACTOR\n"
    )
    hooks = inference_script.load(str(tmp_path))
    assert hooks.predict_fn is not None
    assert hooks.predict_fn(2, None, CONTEXT) == 6


def test_code_wins(tmp_path: Path) -> None:
    """Where both are there, the one in code/ is the program."""
    (tmp_path / "inference.py").write_text("raise RuntimeError('not this one')\n")
    assert load(tmp_path, "def model_fn(model_dir):\n    return 'code'\n").model_fn is not None
    assert inference_script.program_path(str(tmp_path)) == str(tmp_path / "code" / "inference.py")


def test_a_missing_package_is_named_as_pip_does(tmp_path: Path) -> None:
    """The message has the line for requirements.txt, under the distribution's name."""
    message = refusal(tmp_path, "import skimage\n")
    assert "No module named 'skimage'" in message
    assert "Add a line scikit-image to the model's code/requirements.txt" in message


def test_a_module_of_one_s_own_is_no_package(tmp_path: Path) -> None:
    """Who has left a module out is not told to install what may be a stranger's package of that name."""
    message = refusal(tmp_path, "import features_of_mine\n")
    assert "If features_of_mine is a module of your own, put it beside inference.py in code/" in message
    assert "Add a line features_of_mine" not in message


def test_where_an_import_fails(tmp_path: Path) -> None:
    """The message names the line of the author's own code, and a syntax error's is in its own text."""
    assert f"NameError: name 'x' is not defined ({tmp_path}/code/inference.py, line 2)" in refusal(tmp_path, "\nx\n")
    assert refusal(tmp_path, "def f(:\n").count("line 1") == 1
