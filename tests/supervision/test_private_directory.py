# SPDX-License-Identifier: Apache-2.0
"""The server's private directory."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagemaker_inference_lite.errors import DirectoryError
from sagemaker_inference_lite.supervision.private_directory import private_directory

# unix(7): the path of a socket, its final NUL not among them.
LONGEST_SOCKET_PATH = 107


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR with a path that is not too long."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        tmpdir(monkeypatch, name)
        yield Path(name)


def tmpdir(monkeypatch: pytest.MonkeyPatch, directory: Path | str) -> None:
    """Sets TMPDIR; what tempfile has made of it before is forgotten."""
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_nobody_else_may_enter(temporary: Path) -> None:
    """The directory lies in TMPDIR under a name of its own, and is this user's alone, whatever the umask."""
    before = os.umask(0)
    try:
        with private_directory("sil-") as first, private_directory("sil-") as second:
            assert first != second
            assert first.parent == second.parent == temporary
            assert first.name.startswith("sil-")
            assert first.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_it_is_gone_afterwards(temporary: Path) -> None:
    """Leaving it removes it with all that is in it."""
    with private_directory("sil-") as path:
        (path / "below").mkdir()
        (path / "below" / "file").touch()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path / "socket"))
    assert list(temporary.iterdir()) == []


def test_it_is_gone_after_an_error(temporary: Path) -> None:
    """The same where it is left by an error, which goes on."""
    with pytest.raises(KeyError), private_directory("sil-"):
        raise KeyError
    assert list(temporary.iterdir()) == []


def test_somebody_else_has_removed_it() -> None:
    """That it is gone already is no error."""
    with private_directory("sil-") as path:
        path.rmdir()


@pytest.mark.parametrize("name", ["x" * 60, "é" * 30], ids=["long", "long in bytes"])
def test_sockets_fit_in(monkeypatch: pytest.MonkeyPatch, temporary: Path, name: str) -> None:
    """Where TMPDIR is too long for the paths of sockets, /tmp is used; a name of 40 bytes always fits."""
    (temporary / name).mkdir()
    tmpdir(monkeypatch, temporary / name)
    with private_directory("sil-") as path:
        assert path.parent == Path("/tmp")
        assert len(os.fsencode(path / ("y" * 40))) <= LONGEST_SOCKET_PATH


def test_links_are_followed(monkeypatch: pytest.MonkeyPatch, temporary: Path, tmp_path: Path) -> None:
    """Of a TMPDIR that is a link, the real path counts, as the front end makes its paths of that."""
    real = tmp_path / ("x" * 80)
    real.mkdir()
    (temporary / "link").symlink_to(real)
    tmpdir(monkeypatch, temporary / "link")
    with private_directory("sil-") as path:
        assert path.parent == Path("/tmp")
    (temporary / "short").mkdir()
    (temporary / "link").unlink()
    (temporary / "link").symlink_to(temporary / "short")
    with private_directory("sil-") as path:
        assert path.parent == temporary / "short"


def test_a_directory_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be made, the error names the place and the variable that chooses another."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc")  # where not even root can make one
    with pytest.raises(DirectoryError, match=r"made in /proc: .*TMPDIR"), private_directory("sil-"):
        pass


def test_no_temporary_directory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no directory for temporary files can be used, that is the same error."""
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc", "/nowhere"])
    with pytest.raises(DirectoryError, match="TMPDIR"), private_directory("sil-"):
        pass
