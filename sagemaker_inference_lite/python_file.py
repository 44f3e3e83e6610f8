# SPDX-License-Identifier: Apache-2.0
"""Importing Python files that are no part of any installed package, beside others of the same names."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_OURS = __name__.partition(".")[0]


def import_file(name: str, path: Path, package_path: Sequence[str] | None = None) -> ModuleType:
    """Imports a file as the module of that name, and leaves no half of it behind where that fails.

    Args:
        name: The module's name in sys.modules; what was there is replaced.
        path: The file, whose name ends with ".py".
        package_path: Where the modules of the package lie, if the file is a package's ``__init__.py``.

    Raises:
        BaseException: Whatever the file's code raises.
    """
    locations = None if package_path is None else list(package_path)
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def put_first_on_path(directory: Path) -> None:
    """Has imports look into a directory before anywhere else.

    Modules of the names that the directory holds, but from elsewhere, are forgotten: who has imported them keeps
    them, and the next import finds the directory's own. Those of the standard library and of installed packages
    stay, because extension modules cannot be imported twice.

    Args:
        directory: An absolute path.
    """
    # Before it is on sys.path: the packages without a file that are there already take in what is found on it.
    foreign = {name for name in _names_in(directory) if _is_foreign(sys.modules.get(name), directory)}
    entry = str(directory)
    while entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    # A directory's listing is kept by its time stamp, and models are unpacked within one tick of it.
    importlib.invalidate_caches()
    for name in list(sys.modules):
        if name.partition(".")[0] in foreign:
            del sys.modules[name]


def _names_in(directory: Path) -> set[str]:
    """The modules and packages that imports find in a directory, whatever kind of file they are."""
    found = {module.name for module in pkgutil.iter_modules([str(directory)])}
    for path in directory.glob("*/*.py"):
        # Without __init__.py a directory gives way to any other package of its name, wherever that is on sys.path.
        if not getattr(sys.modules.get(path.parent.name), "__file__", None):
            found.add(path.parent.name)
    return found - {"__main__", _OURS}


def _is_foreign(module: ModuleType | None, directory: Path) -> bool:
    places = _places_of(module)
    installed = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    around = {parent for place in places for path in (place, place.resolve()) for parent in (path, *path.parents)}
    kept = installed | {directory, directory.resolve()}
    return bool(places) and kept.isdisjoint(around) and not _is_in_packages(places)


def _places_of(module: ModuleType | None) -> list[Path]:
    """A module's file, or the directories of a package that has none; nothing where it is built in."""
    file = getattr(module, "__file__", None)
    return [Path(file)] if file else [Path(each) for each in getattr(module, "__path__", ())]


def _is_in_packages(places: Sequence[Path]) -> bool:
    return any({"site-packages", "dist-packages"} & set(place.parts) for place in places)
