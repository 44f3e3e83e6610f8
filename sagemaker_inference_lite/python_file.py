# SPDX-License-Identifier: Apache-2.0
"""Importing a Python file that is no part of any package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_file(name: str, path: Path) -> ModuleType:
    """Imports a file as the module of that name, and leaves no half of it behind where that fails.

    Args:
        name: The module's name in sys.modules; what was there is replaced.
        path: The file, whose name ends with ".py".

    Raises:
        BaseException: Whatever the file's code raises.
    """
    spec = importlib.util.spec_from_file_location(name, path)
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
