# SPDX-License-Identifier: Apache-2.0
"""From a handler_service to a callable, in every form; and what is said where there is none."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.errors import HandlerError
from sagemaker_inference_lite.handlers.handler_loader import (
    import_handler,
    read_manifest,
    split_handler,
    start_handler,
)
from sagemaker_inference_lite.handlers.out_of_memory import is_memory_error

FUNCTION = """
    def handle(data, context):
        return ["from", __name__, data]
    other = handle
"""

ONE_CLASS = """
    from collections import OrderedDict  # imported classes do not count
    class Base:
        pass
    class Service:
        def initialize(self, context):
            self.model = context.model_name
        def handle(self, data, context):
            return [self.model, data]
"""


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Forgets what a test has imported, and where from."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    """A file with this text, in directories made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    importlib.invalidate_caches()
    return path


def loaded(handler_service: str, *directories: Path) -> Any:
    """The handler, made ready for a model named "m"."""
    return start_handler(import_handler(handler_service, directories), Context("m", "/m"))


def complaint(handler_service: str, *directories: Path) -> str:
    """Why a handler cannot be imported. It is always quoted."""
    with pytest.raises(HandlerError) as caught:
        import_handler(handler_service, directories)
    assert repr(handler_service) in str(caught.value)
    return str(caught.value)


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/code/handler.py:handle", ("/code/handler.py", "handle")),
        ("handler.py", ("handler.py", None)),
        ("package.module:function", ("package.module", "function")),
        ("package.module", ("package.module", None)),
        ("/co:de/handler.py:handle", ("/co:de/handler.py", "handle")),
    ],
)
def test_place_and_name(text: str, parts: tuple[str, str | None]) -> None:
    """What stands behind the last colon is the name, all before it the place."""
    assert split_handler(text) == parts


@pytest.mark.parametrize(
    "text", ["", " ", ":", ":handle", " :handle", "handler:", "handler.py:a b", "handler:a.b", "a:1"]
)
def test_what_is_no_handler(text: str) -> None:
    """What has no place, or a name that is none, is refused with the forms that are expected."""
    with pytest.raises(HandlerError, match=r"expected /path/file.py:function, package.module:function") as caught:
        split_handler(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("suffix", ["", ":handle", ":other"])
def test_function_of_a_file(tmp_path: Path, suffix: str) -> None:
    """A file's function is found by its name, and is called handle where none is given."""
    path = write(tmp_path / "one_handler.py", FUNCTION)
    assert loaded(f"{path}{suffix}")(1, None) == ["from", "one_handler", 1]


@pytest.mark.parametrize("place", ["near.py", "./near.py", "code/near.py", "code/near"])
def test_relative_file(tmp_path: Path, place: str) -> None:
    """A relative file is looked for in the directories, the first of which wins; .py may be left out of a path."""
    write((tmp_path / "first" / place).with_suffix(".py"), FUNCTION)
    write((tmp_path / "second" / place).with_suffix(".py"), "handle = len")
    handle = loaded(f"{place}:handle", tmp_path / "nowhere", tmp_path / "first", tmp_path / "second")
    assert handle(1, None) == ["from", "near", 1]


def test_module(tmp_path: Path) -> None:
    """A dotted name is imported as any module is."""
    write(tmp_path / "some_package" / "__init__.py", "")
    write(tmp_path / "some_package" / "handlers.py", FUNCTION)
    sys.path.insert(0, str(tmp_path))
    assert loaded("some_package.handlers:handle")(1, None) == ["from", "some_package.handlers", 1]
    assert loaded("some_package.handlers")(2, None) == ["from", "some_package.handlers", 2]


@pytest.mark.parametrize("suffix", ["", ":handle", ":Service", ":service_that_is_not_there"])
def test_class(tmp_path: Path, suffix: str) -> None:
    """The one class with a method handle is instantiated and initialized, as in MMS whatever name was given."""
    path = write(tmp_path / "class_handler.py", ONE_CLASS)
    assert loaded(f"{path}{suffix}")(1, None) == ["m", 1]


def test_class_without_initialize(tmp_path: Path) -> None:
    """A class needs no initialize."""
    path = write(tmp_path / "plain_handler.py", "class Service:\n    def handle(self, data, context): return data")
    assert loaded(str(path))(1, None) == 1


def test_instance(tmp_path: Path) -> None:
    """Whatever can be called is a function, as an instance under the name handle is."""
    path = write(
        tmp_path / "instance_handler.py", "class S:\n    def __call__(self, *a):\n        return a\nhandle = S()"
    )
    assert loaded(str(path))(1, 2) == (1, 2)


def test_functions_are_called_once_to_load(tmp_path: Path) -> None:
    """A function is called without data when the model loads, and its error is the load's."""
    path = write(
        tmp_path / "lazy_handler.py",
        "calls = []\ndef handle(*arguments):\n    calls.append(arguments)\n    1 / len(calls[1:])",
    )
    context = Context("m", "/m")
    entry_point = import_handler(str(path), [])
    with pytest.raises(ZeroDivisionError):
        start_handler(entry_point, context)
    assert sys.modules["lazy_handler"].calls == [(None, context)]


def test_errors_of_initialize_are_the_load_s(tmp_path: Path) -> None:
    """A class that cannot be initialized has not been loaded."""
    text = """
        class Service:
            def initialize(self, context):
                raise OSError("no weights")
            def handle(self, data, context):
                pass
    """
    path = write(tmp_path / "bad_class_handler.py", text)
    with pytest.raises(OSError, match="no weights"):
        loaded(str(path))


# -- files ------------------------------------------------------------------------------------------------------------


def test_what_lies_beside_a_handler_can_be_imported(tmp_path: Path) -> None:
    """A handler's directory is where its imports are looked for first."""
    write(tmp_path / "beside_helper.py", "VALUE = 7")
    path = write(
        tmp_path / "beside_handler.py", "import beside_helper\ndef handle(d, c):\n    return beside_helper.VALUE"
    )
    assert loaded(str(path))(None, None) == 7
    assert sys.path[0] == str(tmp_path)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Handlers of one name in different directories are different modules, and stay so when asked for again."""
    paths = [write(tmp_path / name / "same_handler.py", f"handle = lambda *_: {name!r}") for name in ("a", "b")]
    for _ in range(2):
        assert [loaded(str(path))() for path in paths] == ["a", "b"]


def test_the_same_file_is_imported_once(tmp_path: Path) -> None:
    """A file is one module, by whatever path it is reached."""
    path = write(tmp_path / "once_handler.py", "def handle(d, c):\n    pass")
    (tmp_path / "link").symlink_to(tmp_path)
    first = import_handler(str(path), [])
    assert import_handler("once_handler.py", [tmp_path / "link"]) is first
    assert import_handler("once_handler:handle", []) is first


@pytest.mark.parametrize("name", ["code", "time", "json"])
def test_names_of_the_standard_library(tmp_path: Path, name: str) -> None:
    """A handler may be called as a module of the standard library is; that keeps its name where it is imported."""
    standard = importlib.import_module(name)
    path = write(tmp_path / f"{name}.py", FUNCTION)
    found = loaded(str(path))(1, None)
    assert found[0] == "from"
    assert found[1].startswith(f"{name}_")
    assert sys.modules[name] is standard


@pytest.mark.parametrize("name", ["my-handler", "model.v2", "json.v2", "2nd"])
def test_names_that_are_no_identifiers(tmp_path: Path, name: str) -> None:
    """A file need not be called as a module could be."""
    path = write(tmp_path / f"{name}.py", FUNCTION)
    assert loaded(f"{path}:handle")(1, None)[2] == 1


def test_a_relative_file_on_the_path(tmp_path: Path) -> None:
    """A file that is in none of the directories is looked for where Python finds modules, as MMS does it."""
    write(tmp_path / "on_the_path.py", FUNCTION)
    sys.path.append(str(tmp_path))
    assert loaded("on_the_path.py:handle", tmp_path / "nowhere")(1, None)[2] == 1


# -- complaints -------------------------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named in each place where it was looked for."""
    text = complaint("code/missing.py:handle", tmp_path / "a", tmp_path / "b")
    for directory in ("a", "b"):
        assert f"{tmp_path}/{directory}/code/missing.py" in text
    assert "/opt/missing.py" in complaint("/opt/missing.py:handle", tmp_path)
    assert "no file missing.py" in complaint("missing.py")


def test_no_such_module() -> None:
    """A module that is not there is named, with the path that was searched."""
    for name in ("no_such_module", "no_such_package.module", "json.no_such_module", "json.decoder.more"):
        text = complaint(f"{name}:handle")
        assert "cannot be found: there is no module" in text
        assert sys.path[-1] in text


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import broken_handler.more", "ModuleNotFoundError: No module named 'broken_handler.more'"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from . import x", "ImportError"),
    ],
)
def test_a_module_that_does_not_import(tmp_path: Path, text: str, reason: str, as_file: bool) -> None:
    """A module that is there but fails is another mistake than one that is not, and is tried anew the next time."""
    path = write(tmp_path / "broken_handler.py", text)
    sys.path.insert(0, str(tmp_path))
    found = complaint(f"{path if as_file else 'broken_handler'}:handle")
    assert "cannot be imported from" in found
    assert reason in found
    path.write_text("handle = print  # mended, and of another size")
    importlib.invalidate_caches()
    assert import_handler("broken_handler:handle", []) is print


def test_the_cause_is_kept(tmp_path: Path) -> None:
    """The error of a handler's import is the cause of ours, so that the log has its traceback and memory is known."""
    path = write(tmp_path / "heavy_handler.py", "raise OSError(12, 'Cannot allocate memory')")
    with pytest.raises(HandlerError) as caught:
        import_handler(str(path), [])
    assert isinstance(caught.value.__cause__, OSError)
    assert is_memory_error(caught.value)


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_handler_s(tmp_path: Path, kind: type[BaseException]) -> None:
    """Lack of memory and an interrupt during an import stay what they are."""
    path = write(tmp_path / "interrupted_handler.py", f"raise {kind.__name__}")
    with pytest.raises(kind):
        import_handler(str(path), [])


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        ("", "", "no function 'handle' and no class with a method handle"),
        ("handle = 3", "", "no function 'handle'"),
        ("def handle(d, c): pass", ":predict", "no function 'predict'"),
        ("class A:\n    def handle(s, d, c): pass\nclass B(A): pass", "", "and 2 classes with a method handle"),
        ("from collections import OrderedDict\nclass A: pass", "", "no class with a method handle"),
    ],
)
def test_no_entry_point(tmp_path: Path, text: str, suffix: str, expected: str) -> None:
    """Where there is nothing to call, or more than one thing, the error says what there is, and in which file."""
    path = write(tmp_path / "empty_handler.py", text)
    found = complaint(f"{path}{suffix}")
    assert expected in found
    assert str(path) in found


# -- archives ---------------------------------------------------------------------------------------------------------


def test_manifest(tmp_path: Path) -> None:
    """A model archive's manifest is read; a model without one has none."""
    assert read_manifest(str(tmp_path)) is None
    manifest = {"model": {"modelName": "é", "handler": "h:handle"}}
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    assert read_manifest(str(tmp_path)) == manifest


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    """A manifest that cannot be read is an error of the load, not passed over."""
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting property name"):
        read_manifest(str(tmp_path))


def test_a_manifest_that_has_no_end_is_not_opened(tmp_path: Path) -> None:
    """A named pipe, on which a reader would wait for ever, and a file that is too large to be a manifest."""
    manifest = tmp_path / "MAR-INF" / "MANIFEST.json"
    manifest.parent.mkdir()
    os.mkfifo(manifest)
    with pytest.raises(ValueError, match="not a regular file"):
        read_manifest(str(tmp_path))
    manifest.unlink()
    manifest.write_text("{}" + " " * (1 << 20))
    with pytest.raises(ValueError, match="larger than 1048576 bytes"):
        read_manifest(str(tmp_path))
