# SPDX-License-Identifier: Apache-2.0
"""From the paths that a person names to models with names that a person can type."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import LaunchError
from sagemaker_inference_lite.handlers.frameworks.kinds import KINDS, kind_of

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")

# What the front end refuses in a name (ModelName.java), and the most characters that it takes.
_NOT_IN_A_NAME = re.compile(r"[/\\?#%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]|^\s|\s$|^\.\.?$")
_LONGEST_NAME = 256
# What needs quotes in a shell or escapes in a URL is not typed with pleasure.
_NOT_TYPED = re.compile(r"[^\w.\-]+")

_EXPECTED = (
    "a model's file (.joblib, .onnx, .pt, XGBoost's .json or .ubj, LightGBM's .txt, CatBoost's .cbm), a directory "
    "with one or with code/inference.py, a model.tar.gz, or a directory of several of these"
)
_OBVIOUS = "model"
_PICKLES = (".pkl", ".pickle")
_SUFFIXES = tuple(kind.suffix for kind in KINDS)


class ModelPathError(LaunchError):
    """What was named as a model cannot be served as one."""

    exit_code = 2


class Kind(Enum):
    """What a model's path is."""

    FILE = "file"
    DIRECTORY = "directory"
    ARCHIVE = "archive"


class LocalModel(NamedTuple):
    """One model to serve.

    Attributes:
        name: How callers name it.
        kind: What its path is.
        path: Where it is, absolute.
    """

    name: str
    kind: Kind
    path: Path


class Models(NamedTuple):
    """What is to be served.

    Attributes:
        models: In the order in which they were named; never none, no two of one name.
        several: Whether callers name the model that they mean: where more than one path was named, or a name, or a
            directory of several.
    """

    models: tuple[LocalModel, ...]
    several: bool


def find_models(paths: Sequence[str], named: Sequence[tuple[str, str]] = (), has_handler: bool = False) -> Models:
    """The models at these paths.

    Args:
        paths: Files, directories and archives, as a person wrote them.
        named: The same, each after the name that it is to have.
        has_handler: Whether a handler of the user's own serves them: any directory may be meant for it.

    Raises:
        ModelPathError: A path is no model, a name cannot be one, two models have one name, or nothing was named.
    """
    if not paths and not named:
        raise ModelPathError(f"Nothing to serve was named. Expected {_EXPECTED}.")
    models: list[LocalModel] = []
    several = len(paths) > 1 or bool(named)
    for text in paths:
        path = _existing(text)
        children = _models_in(path) if path.is_dir() and not _is_model_directory(path) else []
        models += children or [_model(text, path, name_for(path), has_handler)]
        several = several or bool(children)
    models += [_model(text, _existing(text), _checked(name), has_handler) for name, text in named]
    _refuse_same_names(models)
    return Models(tuple(models), several)


def name_for(path: Path) -> str:
    """A name for what lies there: that of the file or directory, less its suffix and what is hard to type."""
    name = path.name
    for suffix in (*ARCHIVE_SUFFIXES, *_SUFFIXES):
        if name.lower().endswith(suffix) and path.is_file():
            name = name[: -len(suffix)]
            break
    return _NOT_TYPED.sub("-", name).strip("-.")[:_LONGEST_NAME] or "model"


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists():
        # Of a directory named as "." or ".." the name is wanted; a link keeps its own.
        return path.resolve() if path.name in ("", "..") else Path.cwd() / path
    if path.is_symlink():
        raise ModelPathError(f"{text} is a link to {path.readlink()}, which does not exist.")
    raise ModelPathError(f"{text} does not exist.{_what_is_there(path)}")


def _what_is_there(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Nor does the directory {path.parent}."
    names = [each.name for each in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f" Did you mean {path.with_name(near[0])}?" if near else ""


def _model(text: str, path: Path, name: str, has_handler: bool) -> LocalModel:
    kind = _kind_of(path)
    if kind is None and has_handler and path.is_dir() and any(path.iterdir()):
        kind = Kind.DIRECTORY
    if kind is None:
        raise ModelPathError(f"{text} {_why_none(path)}.")
    return LocalModel(name, kind, path)


def _kind_of(path: Path) -> Kind | None:
    if path.is_dir():
        return Kind.DIRECTORY if _is_model_directory(path) else None
    if not path.is_file():
        return None
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        return Kind.ARCHIVE
    return Kind.FILE if kind_of(path) else None


def _is_model_directory(path: Path) -> bool:
    """Whether a directory is one model: it has code, or a file model.*, or one model's file and no other model.

    Which of the files is the model, the default handler decides in the same way.
    """
    if path.joinpath("code").is_dir() or path.joinpath("inference.py").is_file():
        return True
    children = [each for each in path.iterdir() if not each.name.startswith(".")]
    files = [each for each in children if kind_of(each)]
    if any(each.stem == _OBVIOUS for each in files):
        return True
    return len(files) == 1 and not any(_kind_of(each) for each in children if each not in files)


def _models_in(directory: Path) -> list[LocalModel]:
    found = []
    for child in sorted(directory.iterdir()):
        kind = None if child.name.startswith(".") else _kind_of(child)
        if kind is not None:
            found.append(LocalModel(name_for(child), kind, child))
    return found


def _why_none(path: Path) -> str:
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir())
        held = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"is a directory without a model; it holds {held or 'nothing'}. Expected {_EXPECTED}"
    if path.suffix.lower() in _PICKLES:
        return "is a pickle, which is not served as it is: write it again with joblib.dump(model, 'model.joblib')"
    if not path.is_file():
        return f"is neither a file nor a directory. Expected {_EXPECTED}"
    if path.suffix.lower() in _SUFFIXES:
        return f"is not a model, although its name ends in {path.suffix}. Expected {_EXPECTED}"
    return f"is not a model that is known by its name. Expected {_EXPECTED}"


def _checked(name: str) -> str:
    if not name or len(name) > _LONGEST_NAME or _NOT_IN_A_NAME.search(name):
        raise ModelPathError(
            f"{name!r} cannot be a model's name: expected 1 to {_LONGEST_NAME} characters, none of them / \\ ? # % or "
            "a control character, and no space at either end."
        )
    return name


def _refuse_same_names(models: Sequence[LocalModel]) -> None:
    by_name: dict[str, list[Path]] = defaultdict(list)
    for model in models:
        by_name[model.name].append(model.path)
    for name, paths in by_name.items():
        if len(paths) > 1:
            one, other = paths[:2]
            example = shlex.quote(f"{_apart(other, one)}={other}")
            raise ModelPathError(f"Two models have the name {name}: {one} and {other}. Name one: --model {example}")


def _apart(path: Path, other: Path) -> str:
    """A name for a path, of the first of its directories that tells it from the other."""
    for mine, theirs in zip(path.parents, other.parents):
        if mine.name != theirs.name and mine.name:
            return name_for(mine)
    return f"{name_for(path)}-2"
