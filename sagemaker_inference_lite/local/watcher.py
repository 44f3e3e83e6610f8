# SPDX-License-Identifier: Apache-2.0
"""Watches the files that a server serves, and says which of them have changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

# How long nothing more must change before it is said: an editor writes a file in several steps.
_QUIET_MILLISECONDS = 200

# How soon a directory is watched again that was deleted, or replaced by another of its name.
_LOOK_AGAIN_MILLISECONDS = 500

_IGNORED = frozenset(
    (*("__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".ipynb_checkpoints", ".DS_Store"), "node_modules")
)
_IGNORED_SUFFIXES = (".pyc", ".pyo", ".swp", ".swx", "~", ".tmp")
_IGNORED_PREFIXES = (".#", "#", "4913")  # of Emacs and Vim


class Watched(NamedTuple):
    """What is watched.

    Attributes:
        trees: Directories, with everything below them.
        files: Files, by name: one that is deleted and made again is the same. Links are followed.
        modules: Files of Python's, with the modules that lie beside them.
    """

    trees: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    modules: tuple[Path, ...] = ()


class Watcher:
    """Calls back in a thread of its own with the paths that have changed, once nothing more does for a moment.

    Args:
        watchfiles: The library of that name.
        watched: What to watch.
        changed: Called with the paths, as they were given or below what was given.
    """

    def __init__(self, watchfiles: Any, watched: Watched, changed: Callable[[Sequence[Path]], None]) -> None:
        self._watchfiles = watchfiles
        self._changed = changed
        self._stop = threading.Event()
        roots = list(_roots(watched))
        self._threads = [threading.Thread(target=self._run, args=(root,), daemon=True) for root in roots]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Watch no more. A change that has just been seen may be told still."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, root: _Root) -> None:
        was_there = True
        while not self._stop.is_set():
            identity = _identity(root.directory)
            if identity is None:
                was_there = False
                self._stop.wait(_LOOK_AGAIN_MILLISECONDS / 1000)
                continue
            if not was_there:
                self._changed([root.shown])
            was_there = self._watch(root, identity)
            if was_there and not self._stop.is_set():
                self._changed([root.shown])  # another directory has taken its place

    def _watch(self, root: _Root, identity: tuple[int, int]) -> bool:
        """Watch a directory for as long as it is that one; whether another one has taken its place."""
        try:
            for changes in self._watchfiles.watch(
                root.directory,
                watch_filter=lambda change, path: root.concerns(Path(path)),
                debounce=_QUIET_MILLISECONDS,
                step=50,
                stop_event=self._stop,
                rust_timeout=_LOOK_AGAIN_MILLISECONDS,
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=root.is_tree,
            ):
                paths = sorted({root.as_given(Path(path)) for _, path in changes})
                if paths:
                    self._changed(paths)
                found = _identity(root.directory)
                if found != identity:
                    return found is not None
        except (OSError, RuntimeError):  # it was deleted in the midst of it
            return False
        return True


class _Root(NamedTuple):
    """A directory that is watched.

    Attributes:
        directory: With links resolved, as the kernel names it.
        shown: As it was given.
        is_tree: Whether everything below it counts.
        names: Of what is directly in it, what counts; empty where everything does.
        has_modules: Whether other files of Python's count as well.
    """

    directory: Path
    shown: Path
    is_tree: bool
    names: frozenset[str] = frozenset()
    has_modules: bool = False

    def concerns(self, path: Path) -> bool:
        """Whether a change of a path is one."""
        try:
            parts = path.relative_to(self.directory).parts
        except ValueError:
            return False
        if _IGNORED.intersection(parts) or path.name.endswith(_IGNORED_SUFFIXES):
            return False
        if path.name.startswith(_IGNORED_PREFIXES):
            return False
        return not self.names or path.name in self.names or (self.has_modules and path.suffix == ".py")

    def as_given(self, path: Path) -> Path:
        """The path below the directory as that was given."""
        return self.shown / path.relative_to(self.directory)


def _roots(watched: Watched) -> Iterator[_Root]:
    for tree in watched.trees:
        yield _Root(Path(os.path.realpath(tree)), tree, is_tree=True)
    files = [(file, False) for file in _with_targets(watched.files)]
    files += [(file, True) for file in _with_targets(watched.modules)]
    for directory in dict.fromkeys(file.parent for file, _ in files):
        names = frozenset(file.name for file, _ in files if file.parent == directory)
        has_modules = any(is_module for file, is_module in files if file.parent == directory)
        yield _Root(Path(os.path.realpath(directory)), directory, False, names, has_modules)


def _with_targets(files: Iterable[Path]) -> Iterator[Path]:
    """The files and, where they are links, what those lead to: either may change."""
    for file in files:
        yield file.absolute()
        if file.is_symlink():
            yield Path(os.path.realpath(file))


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino
