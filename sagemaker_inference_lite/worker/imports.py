# SPDX-License-Identifier: Apache-2.0
"""What a load imported of the installed packages, and importing it ahead for the loads that follow."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, takewhile
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.runtime import fork_guard
from sagemaker_inference_lite.runtime.fork_safety import SURVIVE_A_FORK, count_threads, held, why_unsafe
from sagemaker_inference_lite.runtime.printable import named

# More threads than a process can have.
_ANY = 1 << 30

_PACKAGES = ("site-packages", "dist-packages")


class Outcome(NamedTuple):
    """What came of importing modules.

    Attributes:
        imported: Those that are imported now.
        failed: Those that raised, with what.
        unsafe: The package that a fork would not survive, which ends the import; "" where there is none.
        reason: Why, to be read after "it".
    """

    imported: list[str]
    failed: dict[str, str]
    unsafe: str = ""
    reason: str = ""


def image_directories(path: Sequence[str]) -> tuple[str, ...]:
    """The directories of a path whose packages belong to the image, and those of the standard library."""
    installed = [entry for entry in path if set(_PACKAGES) & set(Path(entry).parts)]
    paths = sysconfig.get_paths()
    return tuple(os.path.join(entry, "") for entry in (*installed, paths["stdlib"], paths["platstdlib"]))


def latest_import() -> str:
    """The module whose import was the last to end."""
    return next(reversed(sys.modules))


def imported_since(latest: str, directories: tuple[str, ...]) -> list[str]:
    """The modules that have been imported from these directories since, in the order in which their imports ended.

    What was there before is not looked at: to look at an object is to write to its page, which is shared no more then.

    Args:
        latest: What latest_import() said.
        directories: As image_directories() gives them.
    """
    names = list(takewhile(lambda name: name != latest, reversed(sys.modules)))
    return [name for name in reversed(names) if _can_be_shared(name, sys.modules[name], directories)]


def _can_be_shared(name: str, module: object, directories: tuple[str, ...]) -> bool:
    file = getattr(module, "__file__", None) or ""
    # What a package makes up at run time cannot be imported by its name.
    return file.startswith(directories) and getattr(getattr(module, "__spec__", None), "name", None) == name


def import_all(names: Sequence[str], on_package: Callable[[str], None] = lambda name: None) -> Outcome:
    """Imports modules, package by package, and stops after the first package that is not known to survive a fork.

    Args:
        names: The modules, those of a package in a row.
        on_package: Called with the name of each package before it is imported: the import may never end.
    """
    imported: list[str] = []
    failed: dict[str, str] = {}
    before = held()
    threads = before.threads
    for package, members in groupby(names, key=lambda name: name.partition(".")[0]):
        on_package(package)
        for name, error in _import_each(members):
            if error is None:
                imported.append(name)
            else:
                failed[name] = error
        reason = why_unsafe(before, _ANY if package in SURVIVE_A_FORK else threads - before.threads)
        if reason:
            return Outcome(imported, failed, package, reason)
        threads = count_threads()
    return Outcome(imported, failed)


def _import_each(names: Iterator[str]) -> Iterator[tuple[str, str | None]]:
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the load that imported it first has shown them
                importlib.import_module(name)
        except BaseException as error:  # SystemExit too: a package may do anything
            fork_guard.end_if_forked(error)
            yield name, named(error)
        else:
            fork_guard.end_if_forked()
            yield name, None


def look_up_ahead() -> None:
    """Has packages look up now, before a fork, what they look up when they are first asked, and keep.

    Scikit-learn 1.9 asks narwhals about the first data that it is given, and that looks for plug-ins in the metadata of
    all packages that are installed: 0.9 MB of each worker's own.
    """
    narwhals = sys.modules.get("narwhals")
    if narwhals is not None:
        with suppress(Exception):  # then it is looked up later
            narwhals.from_native(None, pass_through=True)
