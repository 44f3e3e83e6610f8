# SPDX-License-Identifier: Apache-2.0
"""Packing: what goes in, what stays out, and that equal files give equal bytes."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.archives import packing, unpacking
from sagemaker_inference_lite.errors import ArchiveError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory with what tools leave in one."""
    directory = tmp_path / "model"
    for name in ("model.bin", "code/inference.py", "code/__pycache__/inference.pyc", ".git/config", "code/a.pyc"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (directory / "run.sh").write_text("true")
    (directory / "run.sh").chmod(0o700)
    return directory


def packed(source: Path, target: Path, timestamp: int = packing.EPOCH) -> bytes:
    """The bytes of an archive."""
    packing.pack(packing.contents_of(source).entries, target, timestamp=timestamp)
    return target.read_bytes()


def test_what_is_packed(model: Path, tmp_path: Path) -> None:
    """The directory's files at the top, in the order of their names; caches and repositories stay out, and are said."""
    contents = packing.contents_of(model)
    assert [entry.name for entry in contents.entries] == ["code", "code/inference.py", "model.bin", "run.sh"]
    assert contents.left_out == (".git", "code/__pycache__", "code/a.pyc")
    assert contents.size == len("code/inference.py" + "model.bin" + "true")
    packed(model, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        modes = {member.name: (member.mode, member.uid, member.uname, member.mtime) for member in tar}
    rest = (0, "", packing.EPOCH)
    assert modes == {
        "code": (0o755, *rest),
        "code/inference.py": (0o644, *rest),
        "model.bin": (0o644, *rest),
        "run.sh": (0o755, *rest),
    }


def test_a_file_stands_at_the_top(tmp_path: Path) -> None:
    """A file alone is the archive's one entry, by its name."""
    (tmp_path / "wine.joblib").write_bytes(b"x")
    assert [entry.name for entry in packing.contents_of(tmp_path / "wine.joblib").entries] == ["wine.joblib"]


def test_equal_files_give_equal_bytes(model: Path, tmp_path: Path) -> None:
    """Whatever the times and rights of the files, and the archive's name; another time that is asked for changes it."""
    first = packed(model, tmp_path / "a.tar.gz")
    for path in model.rglob("*"):
        os.utime(path, (time.time() + 1000, 5))
    (model / "model.bin").chmod(0o600)
    assert packed(model, tmp_path / "another name.tar.gz") == first
    assert packed(model, tmp_path / "a.tar.gz", timestamp=packing.EPOCH + 1) != first


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple).filter(lambda parts: not {".", ".."} & set(parts))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(PATHS, st.binary(max_size=3000), min_size=1, max_size=8))
def test_what_was_packed_comes_out(files: dict[tuple[str, ...], bytes]) -> None:
    """Names of any characters, and any content, come out as they went in."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        source.mkdir()
        written = {}
        for parts, content in files.items():
            path = source.joinpath(*parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                written["/".join(parts)] = content
            except OSError:  # a file where a directory has to be, or a name that is too long
                continue
        contents = packing.contents_of(source)
        expected = {entry.name: written[entry.name] for entry in contents.entries if not entry.is_directory}
        if not expected:
            return
        packing.pack(contents.entries, Path(scratch, "a.tar.gz"))
        unpacking.unpack(Path(scratch, "a.tar.gz"), target)
        found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        assert found == expected


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("/nowhere"), "is a link to /nowhere, which does not exist"),
        (lambda path: path.symlink_to("/etc/hostname"), "outside of"),
        (lambda path: path.symlink_to("/etc"), "is a link to a directory"),
        (lambda path: os.mkfifo(path), "is neither a file nor a directory"),
    ],
    ids="dangling outside directory pipe".split(),
)
def test_what_cannot_be_packed(model: Path, make: object, problem: str) -> None:
    """It is named, with the reason."""
    make(model / "odd")  # type: ignore[operator]
    (found,) = packing.contents_of(model).problems
    assert found.startswith(f"{model / 'odd'} ")
    assert problem in found


def test_a_link_within_becomes_the_file(model: Path, tmp_path: Path) -> None:
    """A link to a file of the model's own is packed as that file."""
    (model / "latest.bin").symlink_to("model.bin")
    packed(model, tmp_path / "a.tar.gz")
    unpacking.unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "latest.bin").read_bytes() == b"model.bin"
    assert not (tmp_path / "out" / "latest.bin").is_symlink()


def test_a_name_that_is_not_utf8(model: Path) -> None:
    """The platform does not unpack it."""
    os.close(os.open(os.fsencode(model) + b"/\xff", os.O_CREAT))
    (problem,) = packing.contents_of(model).problems
    assert "not UTF-8" in problem


def test_nothing_half_made_is_left(model: Path, tmp_path: Path) -> None:
    """Where a file has become shorter, or the disk is full, there is not an archive, and no temporary file."""
    entries = packing.contents_of(model).entries
    (model / "model.bin").write_bytes(b"")
    with pytest.raises(ArchiveError, match="has become shorter"):
        packing.pack(entries, tmp_path / "out" / "a.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ArchiveError, match="cannot be written"):
        packing.pack(entries, Path("/dev/null/a.tar.gz"))


def test_progress(model: Path, tmp_path: Path) -> None:
    """The bytes that are packed are told, up to all of them."""
    told: list[int] = []
    contents = packing.contents_of(model)
    packing.pack(contents.entries, tmp_path / "a.tar.gz", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == contents.size
