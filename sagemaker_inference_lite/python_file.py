# SPDX-License-Identifier: Apache-2.0
"""Importing Python files that are no part of any installed package, beside others of the same names."""

from __future__ import annotations

import importlib
import importlib.util
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
        del sys.modules[name]
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
    entry = str(directory)
    while entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    # A directory's listing is kept by its time stamp, and models are unpacked within one tick of it.
    importlib.invalidate_caches()
    own = _names_in(directory)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own and _is_foreign(module, directory):
            del sys.modules[name]


def _names_in(directory: Path) -> set[str]:
    files = {path.stem for path in directory.glob("*.py")}
    packages = {path.parent.name for path in directory.glob("*/__init__.py")}
    return (files | packages) - {"__init__", "__main__", _OURS}


def _is_foreign(module: ModuleType, directory: Path) -> bool:
    file = getattr(module, "__file__", None)
    if not file:
        return False  # built in, or a package without a file, whose modules are asked themselves
    parents = Path(file).parents
    kept = {directory, *map(Path, sysconfig.get_paths().values())}
    return kept.isdisjoint(parents) and not {"site-packages", "dist-packages"} & set(Path(file).parts)
