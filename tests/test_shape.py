# SPDX-License-Identifier: Apache-2.0
"""The shape of the house: which room may know which, who may exit, print and read the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sagemaker_inference_lite
from sagemaker_inference_lite.settings import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sagemaker_inference_lite"
# The source as it was imported: the tests also run against an installed wheel.
SOURCE = Path(sagemaker_inference_lite.__file__).parent

# Each room with what it may import beside itself. A room is a module or a folder right below the package.
BASE = {"__init__", "errors", "settings", "runtime"}
REQUEST = {"codecs", "content_types", "context", "default_handler_service", "handlers"}
LAUNCH = {"launch", "machine", "mms", "supervision"}
MAY_IMPORT: dict[str, set[str]] = {
    # What all stand on.
    "__init__": set(),
    "errors": set(),
    "settings": {"errors"},
    "runtime": {"errors"},
    "machine": {"settings"},
    "archives": {"errors", "runtime"},
    "requirements": BASE,
    # A request: from bytes to what people's code is given, and back.
    "content_types": {"errors"},
    "context": {"__init__"},
    "codecs": {"content_types", "errors"},
    "handlers": BASE | {"content_types", "context"},
    "default_handler_service": BASE | {"codecs", "content_types", "context", "handlers"},
    # The processes that serve.
    "ipc": BASE,
    "worker": BASE | REQUEST | {"ipc", "requirements"},
    "zygote": BASE | {"handlers", "ipc", "machine", "requirements", "worker"},
    # What starts them and looks after them. It meets the request side in names of programs only.
    "supervision": BASE,
    "mms": BASE | {"machine"},
    "launch": BASE | {"machine", "mms", "requirements", "supervision"},
    "model_server": BASE | LAUNCH,
    "entry_point": BASE | {"model_server"},
    # These stand on top, for people.
    "local": BASE | LAUNCH | REQUEST | {"archives", "model_server"},
    "inspection": BASE | REQUEST | {"archives"},
    "project": BASE,
    "doctor": BASE | LAUNCH | {"inspection"},
    "testing": BASE | {"local", "supervision"},
    "cli": BASE | LAUNCH | {"archives", "doctor", "inspection", "local", "project"},
    "__main__": {"cli"},
}

# The front end's own names, which only those who speak with it may know.
NAMES_OF_THE_FRONT_END = ("com.amazonaws", "MMS_", "MODEL_SERVER_HOME")
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}

# Templates are files of projects that are made of them.
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if "templates" not in path.parts)


def room_of(file: Path) -> str:
    """The room that a file is in."""
    return file.parts[0] if len(file.parts) > 1 else file.stem


def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file of the package."""
    return ast.parse((SOURCE / file).read_text(encoding="utf-8"))


def imports_of(file: Path) -> Iterator[str]:
    """The full names that a file imports, at whatever depth, those for type checkers among them."""
    # An __init__.py is its package, so a relative import there begins one step further down.
    parts = (PACKAGE, *file.parent.parts) if file.name == "__init__.py" else (PACKAGE, *file.with_suffix("").parts)
    package = parts if file.name == "__init__.py" else parts[:-1]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_imported(file: Path) -> set[str]:
    """The rooms of ours that a file imports from, other than its own."""
    found = {name.split(".")[1] for name in imports_of(file) if name.startswith(f"{PACKAGE}.")}
    # A name that is no room is something of the package's own __init__, such as its version.
    return {name if name in MAY_IMPORT else "__init__" for name in found} - {room_of(file)}


def dotted(node: ast.expr) -> str:
    """The text of a dotted name, such as os.environ."""
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def guards_of(tree: ast.Module) -> list[ast.If]:
    """The blocks of a module that run only when it is run as a program."""
    return [each for each in tree.body if isinstance(each, ast.If) and "__name__" in ast.unparse(each.test)]


def is_program(file: Path) -> bool:
    """Whether a file can be run as a program."""
    return bool(guards_of(tree_of(file)))


def strings_of(tree: ast.Module) -> Iterator[str]:
    """The texts in a module, those of its documentation left out."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_module_is_in_a_known_room(file: Path) -> None:
    """A new room says here what it may import."""
    assert room_of(file) in MAY_IMPORT


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_run_one_way(file: Path) -> None:
    """A room imports only from the rooms that it may know."""
    assert rooms_imported(file) <= MAY_IMPORT[room_of(file)]


def test_the_table_has_no_circle() -> None:
    """No room may import one that may import it, by however many others."""
    TopologicalSorter(MAY_IMPORT).prepare()


def test_the_table_knows_no_room_that_is_not_there() -> None:
    """What is gone is gone from here, too."""
    assert set(MAY_IMPORT) == {room_of(file) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_only_the_command_prints_and_exits(file: Path) -> None:
    """Library code returns or raises: only the command prints, and only a program's last line, or its hook, exits."""
    if room_of(file) in ("cli", "__main__") or file == Path("runtime/uncaught.py"):
        return
    tree = tree_of(file)
    endings = {id(node) for guard in guards_of(tree) for node in ast.walk(guard)}
    calls = {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in endings}
    assert not calls & {"print", "exit", "quit", "sys.exit", "SystemExit"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_only_entry_points_read_the_environment(file: Path) -> None:
    """The environment is an argument: only model_server, the command and programs of ours read os.environ.

    And the default handler service, when it is initialized: it is made without arguments, as MMS makes handlers.
    """
    entry_points = ("entry_point", "testing", "model_server", "cli", "__main__", "default_handler_service")
    if room_of(file) in entry_points or (room_of(file) in ("zygote", "requirements") and is_program(file)):
        return
    names = {dotted(node) for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute)}
    names |= set(imports_of(file))
    assert not names & {f"os.{name}" for name in ("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv")}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_only_mms_knows_its_names(file: Path) -> None:
    """Names of the front end's stand in mms/ and where its wire and its interface meet a handler; nowhere else."""
    if room_of(file) in ("mms", "worker", "context", "handlers"):
        return
    texts = [text for text in strings_of(tree_of(file)) if any(name in text for name in NAMES_OF_THE_FRONT_END)]
    # Our own SAGEMAKER_MODEL_SERVER_... only contain such a name.
    # And labels of images are the platform's.
    assert not [text for text in texts if not text.startswith(("SAGEMAKER_", "com.amazonaws.sagemaker."))]
    assert "mms" not in {name.split(".")[0] for name in imports_of(file)}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_nothing_unpickles(file: Path) -> None:
    """No module imports what runs code that bytes hold, or names it, but where the owner's model file is loaded."""
    tree = tree_of(file)
    # The last of them says what to install.
    if not str(file).startswith("handlers/frameworks/") and file != Path("handlers/hints.py"):
        names = {name.split(".")[0] for name in imports_of(file)} | set(strings_of(tree))
        assert not names & UNPICKLERS
    allowed = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    assert all(isinstance(value, ast.Constant) and value.value is False for value in allowed)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_states_its_licence(file: Path) -> None:
    """The first line of each file names its licence."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_the_table_of_settings() -> None:
    """The documented table is the one that `sagemaker-inference-lite settings --markdown` prints."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    found = text.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    assert found.strip() == markdown_table()
