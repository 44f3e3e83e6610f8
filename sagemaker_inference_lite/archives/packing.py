# SPDX-License-Identifier: Apache-2.0
"""Packs a model as the platform wants it; the same bytes for the same files, whenever and wherever that is done."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Callable, NamedTuple

from sagemaker_inference_lite.errors import ArchiveError

# What has no place in a model: tools leave it, and it is large, or of this machine alone.
LEFT_OUT = frozenset(
    (
        *("__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".ipynb_checkpoints", ".DS_Store", "__MACOSX"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".idea", ".vscode", "node_modules", ".tox", ".nox"),
    )
)
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo", ".swp", "~")

# The earliest time that a zip knows, for tools that make one of it.
EPOCH = 315532800

_PIECE_BYTES = 1 << 20
_FILE_MODE, _EXECUTABLE_MODE, _DIRECTORY_MODE = 0o644, 0o755, 0o755


class Entry(NamedTuple):
    """A file or a directory that is packed.

    Attributes:
        name: Its path in the archive.
        path: Where it is.
        size: Its bytes; 0 of a directory.
        is_directory: Whether it is one.
        is_executable: Whether its owner may execute it.
    """

    name: str
    path: Path
    size: int
    is_directory: bool = False
    is_executable: bool = False


class Contents(NamedTuple):
    """What an archive of a model would hold.

    Attributes:
        entries: In the archive's order.
        left_out: Paths, relative to the model's directory, that have no place in a model.
        problems: A sentence for each file that cannot be packed.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.entries)


def contents_of(source: Path) -> Contents:
    """What a file, or a directory, is packed as.

    A file stands at the top of the archive. Of a directory all that is in it does; links to files inside it become
    those files, and other links are problems.
    """
    if not source.is_dir():
        return Contents((_entry(source, source.name),), (), tuple(_problems(source, source.parent)))
    collected = _Collected(source)
    collected.walk(source)
    return Contents(tuple(collected.entries), tuple(collected.left_out), tuple(collected.problems))


class _Collected:
    def __init__(self, source: Path) -> None:
        self._source = source
        self.entries: list[Entry] = []
        self.left_out: list[str] = []
        self.problems: list[str] = []

    def walk(self, directory: Path) -> None:
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            self.problems.append(f"{directory} cannot be read: {error.strerror}.")
            return
        for name in names:
            path = directory / name
            relative = path.relative_to(self._source).as_posix()
            if name in LEFT_OUT or name.endswith(_LEFT_OUT_SUFFIXES):
                self.left_out.append(relative)
                continue
            problems = list(_problems(path, self._source))
            self.problems += problems
            if problems:
                continue
            self.entries.append(_entry(path, relative))
            if path.is_dir():
                self.walk(path)


def _entry(path: Path, name: str) -> Entry:
    try:
        found = path.stat()
    except OSError:  # which is among the problems
        return Entry(name, path, 0)
    if stat.S_ISDIR(found.st_mode):
        return Entry(name, path, 0, is_directory=True)
    return Entry(name, path, found.st_size, is_executable=bool(found.st_mode & stat.S_IXUSR))


def _problems(path: Path, source: Path) -> list[str]:
    """Why a path cannot be packed; nothing where it can."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return [f"{path!a} has a name that is not UTF-8, which the platform does not unpack: rename it."]
    if path.is_symlink():
        if not path.exists():
            return [f"{path} is a link to {os.readlink(path)}, which does not exist."]
        if path.is_dir():
            return [f"{path} is a link to a directory, which is not packed: put the directory itself there."]
        if source.resolve() not in path.resolve().parents:
            return [f"{path} is a link to {path.resolve()}, outside of {source}: put the file itself there."]
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}."]
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return [f"{path} is neither a file nor a directory."]
    if not os.access(path, os.R_OK):
        return [f"{path} cannot be read: Permission denied."]
    return []


def pack(
    entries: Sequence[Entry],
    target: Path,
    level: int = 6,
    timestamp: int = EPOCH,
    progress: Callable[[int], None] = lambda size: None,
) -> int:
    """Writes a .tar.gz; it is there as a whole, or not at all.

    Owners, names of users, times and the name of the file itself are not in it, so equal files give equal bytes.

    Args:
        entries: As contents_of() has them.
        target: The archive.
        level: How hard to compress, 0 to 9. Weights hardly shrink at any, and take a minute a gigabyte at 6.
        timestamp: The time of all files, in seconds since 1970.
        progress: Called with the bytes of files that have been packed so far.

    Returns:
        The archive's bytes.

    Raises:
        ArchiveError: A file has changed or cannot be read, or the archive cannot be written.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.absolute().parent)
        temporary = Path(name)
        with open(descriptor, "wb") as file:
            with gzip.GzipFile("", "wb", level, file, mtime=0) as zipped:
                _write(entries, zipped, timestamp, progress)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, target)
        temporary = None
        return target.stat().st_size
    except OSError as error:
        where = error.filename or target
        raise ArchiveError(f"{target} cannot be written: {where}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _write(entries: Sequence[Entry], file: gzip.GzipFile, timestamp: int, progress: Callable[[int], None]) -> None:
    packed = 0
    # Paths that do not fit into an old header get one of POSIX.1-2001, which every tar since reads.
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mtime = timestamp
            if entry.is_directory:
                info.type, info.mode = tarfile.DIRTYPE, _DIRECTORY_MODE
                tar.addfile(info)
                continue
            info.size = entry.size
            info.mode = _EXECUTABLE_MODE if entry.is_executable else _FILE_MODE
            with open(entry.path, "rb") as source:
                tar.addfile(info, _Counted(source, entry, packed, progress))
            packed += entry.size


class _Counted(io.RawIOBase):
    """A file that is packed: it tells how far it is, and must have as many bytes as it had when it was looked at."""

    def __init__(self, file: IO[bytes], entry: Entry, before: int, progress: Callable[[int], None]) -> None:
        self._file = file
        self._entry = entry
        self._before = before
        self._read = 0
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        piece = self._file.read(size)
        if len(piece) < size:
            raise ArchiveError(f"{self._entry.path} has become shorter while it was packed; nothing was written.")
        self._read += len(piece)
        self._progress(self._before + self._read)
        return piece
