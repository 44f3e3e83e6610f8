# SPDX-License-Identifier: Apache-2.0
"""Unpacks archives as far as they hold plain files and directories, within bounds, wholly or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, NamedTuple

from sagemaker_inference_lite.errors import ArchiveError
from sagemaker_inference_lite.runtime.printable import on_one_line

_PIECE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class Limits(NamedTuple):
    """How much an archive may hold.

    Attributes:
        entries: Files and directories.
        free_bytes: What it may unpack to in any case, if the disk has room.
        ratio: How many times its own size it may unpack to beyond that. What is not made to fill a disk stays below
            twenty.
    """

    entries: int = 1_000_000
    free_bytes: int = 1 << 30
    ratio: int = 200


_LIMITS = Limits()


class Unpacked(NamedTuple):
    """A file that came out of an archive.

    Attributes:
        name: Its path in the archive.
        size: Its bytes.
    """

    name: str
    size: int


def unpack(
    archive: Path, directory: Path, limits: Limits = _LIMITS, progress: Callable[[int], None] = lambda size: None
) -> list[Unpacked]:
    """Unpacks an archive: .tar.gz, .tar, .zip or .mar, told by its first bytes.

    Files get the owner's rights to read and write, and to be executed where they have them in the archive; none is set
    for other users, nor any link, device, owner or time.

    Args:
        archive: The file.
        directory: Where to. It must not exist, or be empty; where anything goes wrong it is as it was before.
        limits: How much it may hold.
        progress: Called with the bytes that have been written so far.

    Returns:
        The files, in the archive's order.

    Raises:
        ArchiveError: It is none of these, is damaged or cut short, holds a link, a device, or a path that leads out of
            it, holds more than it may, or cannot be written. The message names the entry, and what to do.
    """
    archive, directory = Path(archive), Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ArchiveError(f"{directory} is not an empty directory: {archive} is unpacked into one that is, or is new.")
    parent = directory.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=parent))
    except OSError as error:
        raise ArchiveError(f"{archive} cannot be unpacked into {directory}: {error.strerror}.") from error
    try:
        found = _Unpacking(archive, temporary, limits, progress).run()
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, directory)
    except OSError as error:
        raise ArchiveError(f"{archive} cannot be unpacked into {directory}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def merge(source: Path, directory: Path) -> None:
    """Moves what is below a directory into another one, over what is there; the first is then empty of files.

    Raises:
        ArchiveError: A file stands where a directory has to be, or the other way round.
    """
    for path in sorted(source.rglob("*")):
        target = directory / path.relative_to(source)
        try:
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                os.replace(path, target)
        except OSError as error:
            raise ArchiveError(f"{target} cannot be written: {error.strerror or error}.") from error


class _Entry(NamedTuple):
    """One entry of an archive.

    Attributes:
        name: As the archive has it.
        is_directory: Whether it is one; a plain file otherwise.
        is_executable: Whether its owner may execute it.
        other: What else it is, such as "a symbolic link"; "" where it is one of these.
        open: Opens the content of a file; a context manager with read().
    """

    name: str
    is_directory: bool
    is_executable: bool
    other: str
    open: Callable[[], Any]


class _Unpacking:
    def __init__(self, archive: Path, directory: Path, limits: Limits, progress: Callable[[int], None]) -> None:
        self._archive = archive
        self._directory = directory
        self._limits = limits
        self._progress = progress
        self._size = archive.stat().st_size
        free = shutil.disk_usage(directory).free
        self._most_bytes = max(limits.free_bytes, limits.ratio * self._size)
        self._room = free
        self._written = 0
        self._files: dict[str, Unpacked] = {}

    def run(self) -> list[Unpacked]:
        count = 0
        try:
            with _entries(self._archive) as entries:
                for entry in entries:
                    count += 1
                    if count > self._limits.entries:
                        raise ArchiveError(f"{self._archive} holds more than {self._limits.entries} entries.")
                    self._take(entry)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, _Damaged) as error:
            raise ArchiveError(f"{self._archive} is truncated or corrupt: {_reason(error)}") from error
        except (NotImplementedError, RuntimeError) as error:  # of zipfile: other compressions, passwords
            raise ArchiveError(f"{self._archive} cannot be unpacked: {on_one_line(str(error))}.") from error
        if not self._files:
            raise ArchiveError(f"{self._archive} is an archive of nothing: it has no file in it.")
        return list(self._files.values())

    def _take(self, entry: _Entry) -> None:
        shown = on_one_line(repr(entry.name)[:200])
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts or "\0" in entry.name:
            raise ArchiveError(
                f"{self._archive} holds {shown}, which leads out of it. Nothing was unpacked; pack it anew from inside "
                "the model's directory."
            )
        if entry.other:
            raise ArchiveError(
                f"{self._archive} holds {shown}, which is {entry.other}. Nothing was unpacked; pack it anew "
                "with what the link leads to (sagemaker-inference-lite pack, or tar --dereference)."
            )
        target = self._directory.joinpath(*path.parts)
        if entry.is_directory:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        before = self._written
        with entry.open() as source, open(target, "wb") as file:
            while True:
                piece = source.read(_PIECE_BYTES)
                if not piece:
                    break
                self._account(len(piece))
                file.write(piece)
                self._progress(self._written)
        target.chmod((0o777 if entry.is_executable else 0o666) & ~_umask())
        self._files[str(path)] = Unpacked(str(path), self._written - before)

    def _account(self, size: int) -> None:
        self._written += size
        if self._written > self._most_bytes:
            raise ArchiveError(
                f"{self._archive} has {self._size} bytes and unpacks to more than {self._most_bytes}, which no model "
                "does: nothing was unpacked."
            )
        if self._written > self._room:
            raise ArchiveError(f"{self._archive} unpacks to more than the {self._room} bytes that the disk has free.")


def _umask() -> int:
    # Nothing but a child could set it back without another thread seeing it in between.
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1], 8) for line in text.splitlines() if line.startswith("Umask:")), 0o022)


# -- Entries of each kind of archive -----------------------------------------------------------------------------------


class _Damaged(Exception):
    """An archive's structure is not what it has to be."""


@contextmanager
def _entries(archive: Path) -> Iterator[Iterator[_Entry]]:
    with open(archive, "rb") as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(_ZIP):
            with zipfile.ZipFile(file) as opened:
                yield _of_zip(opened)
        elif head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield _of_tar(unzipped)
        else:
            file.seek(257)
            is_tar = file.read(5) == b"ustar"
            file.seek(0)
            if not is_tar:
                raise ArchiveError(
                    f"{archive} is not an archive: expected .tar.gz, .tar, .zip or .mar; its first bytes are {head!r}."
                )
            yield _of_tar(file)


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a header that is damaged, or missing, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _StrictTarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # it is there; a block of zeros, which is the end
            raise
        except tarfile.HeaderError as error:
            missing = "it ends where a further entry should begin" if not buf else f"an entry's header: {error}"
            raise _Damaged(missing) from error


def _of_tar(source: Any) -> Iterator[_Entry]:
    # A stream is never sought in: in a compressed file that means to begin anew.
    with tarfile.open(fileobj=source, mode="r|", tarinfo=_StrictTarInfo) as tar:
        for member in tar:
            yield _Entry(
                member.name,
                member.isdir(),
                bool(member.mode & stat.S_IXUSR),
                "" if member.isdir() or member.isfile() else _KINDS.get(member.type, "neither a file nor a directory"),
                lambda member=member: _Whole(tar.extractfile(member), member.size),  # type: ignore[misc]
            )
            tar.members = []  # type: ignore[attr-defined] # it would keep one for each entry
    while source.read(_PIECE_BYTES):  # the checksum stands at the end
        pass


_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}


class _Whole:
    """A file of a tar archive, which must have as many bytes as its header says."""

    def __init__(self, file: IO[bytes] | None, size: int) -> None:
        assert file is not None
        self._file = file
        self._missing = size

    def __enter__(self) -> _Whole:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._missing -= len(piece)
        if not piece and self._missing:
            raise _Damaged("it ends within a file")
        return piece


def _of_zip(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind = stat.S_IFMT(mode)
        other = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a symbolic link, or a device"
        yield _Entry(
            info.filename,
            info.is_dir(),
            bool(mode & stat.S_IXUSR),
            other,
            lambda info=info: archive.open(info),  # type: ignore[misc]
        )


def _reason(error: BaseException) -> str:
    text = on_one_line(str(error)).rstrip(".") or type(error).__name__
    return f"{text}."
