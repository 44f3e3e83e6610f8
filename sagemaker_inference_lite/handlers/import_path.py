# SPDX-License-Identifier: Apache-2.0
"""Importing Python files that are no part of any installed package, beside others of the same names."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Union

_OURS = __name__.partition(".")[0]

# Text where it can be: the first Path that a worker makes takes 0.2 MB of memory of its own.
StrPath = Union[str, "os.PathLike[str]"]

_LIBRARY = os.path.dirname(os.__file__)


def import_file(
    name: str, path: StrPath, package_path: Sequence[str] | None = None, also: Sequence[str] = ()
) -> ModuleType:
    """Imports a file as the module of that name, and leaves no half of it behind where that fails.

    Args:
        name: The module's name in sys.modules; what was there is replaced.
        path: The file, whose name ends with ".py".
        package_path: Where the modules of the package lie, if the file is a package's ``__init__.py``.
        also: Further names that the module is found under, by what it imports too.

    Raises:
        BaseException: Whatever the file's code raises.
    """
    locations = None if package_path is None else list(package_path)
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.update(dict.fromkeys((name, *also), module))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for each in (name, *also):
            sys.modules.pop(each, None)
        raise
    return module


def import_by_own_name(path: StrPath) -> ModuleType:
    """The module that a file is, imported unless it has been.

    It is called as the file is, so that whoever looks for it finds it: the modules beside it, pickle, and interpreters
    that this one starts. Where another module that stays (see `put_first_on_path`) has that name, or would be found
    under it, it gets a longer one.

    Raises:
        BaseException: Whatever the file's code raises.
    """
    name = _stem(path).replace(".", "_")  # what stands before a dot would be taken for a package
    if not _is_or_may_be(name, path):
        name = unique_name(path)
    return sys.modules.get(name) or import_file(name, path)


def unique_name(path: StrPath) -> str:
    """A name for the module of a file that no other file's has."""
    text = os.fspath(path)
    return f"{_stem(path).replace('.', '_')}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _stem(path: StrPath) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _is_or_may_be(name: str, path: StrPath) -> bool:
    """Whether the module of that name is the file, or an import would make it so, or there is none."""
    taken = sys.modules.get(name)
    if taken is not None:
        return is_of_file(taken, path)
    spec = importlib.util.find_spec(name)
    return spec is None or _is_same(spec.origin, path)


def is_of_file(module: ModuleType | None, path: StrPath) -> bool:
    """Whether a module has been imported from that file, by whatever path."""
    return _is_same(getattr(module, "__file__", None), path)


def _is_same(file: str | None, path: StrPath) -> bool:
    return bool(file) and os.path.realpath(str(file)) == os.path.realpath(path)


def put_first_on_path(directory: StrPath) -> None:
    """Has imports look into a directory before anywhere else.

    Modules of the names that the directory holds, but from elsewhere, are forgotten: who has imported them keeps
    them, and the next import finds the directory's own. Those of the standard library and of installed packages
    stay, because extension modules cannot be imported twice.

    Args:
        directory: An absolute path.
    """
    # Before it is on sys.path: the packages without a file that are there already take in what is found on it.
    foreign = {name for name in _names_taken(directory) if _is_foreign(sys.modules[name], directory)}
    entry = os.fspath(directory)
    while entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    # A directory's listing is kept by its time stamp, and models are unpacked within one tick of it. The listings of
    # other directories, and their finders, are shared with other workers as long as they are left alone.
    sys.path_importer_cache.pop(entry, None)
    if foreign:
        for name in [name for name in sys.modules if name.partition(".")[0] in foreign]:
            del sys.modules[name]


def python_path() -> str:
    """PYTHONPATH for interpreters that this one starts: they look first where this one does.

    That is all that stands before the standard library in sys.path. What stands behind it is found without.
    """
    first = takewhile(lambda entry: not _is_of_library(entry), sys.path)
    return os.pathsep.join(entry for entry in first if entry and os.pathsep not in entry)


def _is_of_library(entry: str) -> bool:
    return entry == _LIBRARY or (entry.endswith(".zip") and os.path.dirname(_LIBRARY) == os.path.dirname(entry))


def _names_taken(directory: StrPath) -> Iterator[str]:
    """Names of modules that are imported already, and that imports would find in a directory too."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name.partition(".")[0]
            if sys.modules.get(name) is not None and name not in ("__main__", _OURS) and _is_module(entry, name):
                yield name


def _is_module(entry: os.DirEntry[str], name: str) -> bool:
    """Whether an import finds that module, which has been imported from somewhere, in a file or in a directory."""
    if not entry.is_dir():
        return inspect.getmodulename(entry.name) == name
    files = os.listdir(entry.path)
    if any(inspect.getmodulename(file) == "__init__" for file in files):
        return True
    # Without __init__.py a directory gives way to any other package of its name, wherever that is on sys.path.
    has_file = getattr(sys.modules[name], "__file__", None)
    return not has_file and any(file.endswith(".py") for file in files)


def _is_foreign(module: ModuleType, directory: StrPath) -> bool:
    places = _places_of(module)
    installed = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    around = {parent for place in places for path in (place, place.resolve()) for parent in (path, *path.parents)}
    kept = installed | {Path(directory), Path(directory).resolve()}
    return bool(places) and kept.isdisjoint(around) and not _is_in_packages(places)


def _places_of(module: ModuleType) -> list[Path]:
    """A module's file, or the directories of a package that has none; nothing where it is built in."""
    file = getattr(module, "__file__", None)
    return [Path(file)] if file else [Path(each) for each in getattr(module, "__path__", ())]


def _is_in_packages(places: Sequence[Path]) -> bool:
    return any({"site-packages", "dist-packages"} & set(place.parts) for place in places)
