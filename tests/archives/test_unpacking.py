# SPDX-License-Identifier: Apache-2.0
"""Unpacking: every kind of archive, and what those hold that mean harm or were cut short."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sagemaker_inference_lite.archives import unpacking
from sagemaker_inference_lite.archives.unpacking import Limits, unpack
from sagemaker_inference_lite.errors import ArchiveError


def tar_of(*members: tuple[str, dict[str, Any], bytes]) -> bytes:
    """A tar file with members of any kind."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, attributes, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


MODEL = tar_of(
    ("./", {"type": tarfile.DIRTYPE}, b""),
    ("./code", {"type": tarfile.DIRTYPE, "mode": 0o7777}, b""),
    ("./code/inference.py", {"mode": 0o6444}, b"x = 1\n"),
    ("run.sh", {"mode": 0o700}, b"true"),
    ("deep/er/data", {}, os.urandom(100_000)),
)


def written(tmp_path: Path, content: bytes) -> Path:
    """An archive with that content."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(content)
    return path


def refusal(tmp_path: Path, content: bytes, **limits: int) -> str:
    """Why an archive is not unpacked; nothing of it must be left anywhere."""
    archive = written(tmp_path, content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, tmp_path / "out", Limits(**limits))
    assert sorted(tmp_path.rglob("*")) == before
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "tar"])
def test_a_tar_file(tmp_path: Path, compress: Any) -> None:
    """Files and directories come out, with no more rights than they need."""
    found = unpack(written(tmp_path, compress(MODEL)), tmp_path / "out")
    assert [each.name for each in found] == ["code/inference.py", "run.sh", "deep/er/data"]
    assert [each.size for each in found] == [6, 4, 100_000]
    assert (tmp_path / "out" / "code" / "inference.py").read_text() == "x = 1\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*")}
    umask = unpacking._umask()
    assert modes["inference.py"] == 0o666 & ~umask
    assert modes["run.sh"] == modes["code"] == 0o777 & ~umask


def test_a_zip(tmp_path: Path) -> None:
    """A zip, as a .mar is one, comes out too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("code/", "")
        archive.writestr("code/inference.py", "x = 1\n")
    assert unpack(written(tmp_path, file.getvalue()), tmp_path / "out") == [("code/inference.py", 6)]


def test_into_an_empty_directory(tmp_path: Path) -> None:
    """One that is there and empty is filled; one that holds something is not touched."""
    (tmp_path / "out").mkdir()
    archive = written(tmp_path, MODEL)
    unpack(archive, tmp_path / "out")
    with pytest.raises(ArchiveError, match="is not an empty directory"):
        unpack(archive, tmp_path / "out")


def test_merging(tmp_path: Path) -> None:
    """What came out may be moved over what is there."""
    unpack(written(tmp_path, MODEL), tmp_path / "out")
    (tmp_path / "target" / "code").mkdir(parents=True)
    (tmp_path / "target" / "code" / "inference.py").write_text("old")
    (tmp_path / "target" / "kept").touch()
    unpacking.merge(tmp_path / "out", tmp_path / "target")
    assert (tmp_path / "target" / "code" / "inference.py").read_text() == "x = 1\n"
    assert (tmp_path / "target" / "kept").exists()
    (tmp_path / "out" / "kept").mkdir()
    with pytest.raises(ArchiveError, match="cannot be written"):
        unpacking.merge(tmp_path / "out", tmp_path / "target")


@pytest.mark.parametrize(
    ("name", "attributes", "why"),
    [
        ("../escaped", {}, "leads out of it"),
        ("/tmp/escaped", {}, "leads out of it"),
        ("a/../../escaped", {}, "leads out of it"),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
        ("link", {"type": tarfile.LNKTYPE, "linkname": "run.sh"}, "a hard link"),
        ("device", {"type": tarfile.CHRTYPE}, "a device"),
        ("pipe", {"type": tarfile.FIFOTYPE}, "a named pipe"),
    ],
    ids="above absolute between symlink hardlink device pipe".split(),
)
def test_what_means_harm(tmp_path: Path, name: str, attributes: dict[str, Any], why: str) -> None:
    """The entry is named, and nothing comes out, of what stands before it neither."""
    message = refusal(tmp_path, tar_of(("before", {}, b"x"), (name, attributes, b"")))
    assert repr(name) in message
    assert why in message


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    """A zip can hold links too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "a symbolic link" in refusal(tmp_path, file.getvalue())


@pytest.mark.parametrize("part", range(1, 40))
def test_cut_short(tmp_path: Path, part: int) -> None:
    """Wherever it ends, a compressed archive that is cut short is not taken for a whole one."""
    whole = gzip.compress(MODEL)
    assert "truncated or corrupt" in refusal(tmp_path, whole[: max(3, len(whole) * part // 40)])


@pytest.mark.parametrize("part", range(1, 40))
def test_a_tar_file_cut_short(tmp_path: Path, part: int) -> None:
    """Nor is one without a checksum."""
    end = MODEL.rstrip(b"\0")
    assert "truncated or corrupt" in refusal(tmp_path, MODEL[: max(600, len(end) * part // 40)])


def test_a_damaged_header(tmp_path: Path) -> None:
    """A header in the middle whose checksum is wrong is not the end of the archive."""
    damaged = bytearray(MODEL)
    damaged[MODEL.index(b"deep/er/data") + 1] ^= 1
    assert "an entry's header" in refusal(tmp_path, bytes(damaged))


def test_a_damaged_byte(tmp_path: Path) -> None:
    """The checksum at the end of a compressed archive is looked at."""
    damaged = bytearray(gzip.compress(MODEL, 0))
    damaged[-5000] ^= 1
    assert "truncated or corrupt" in refusal(tmp_path, bytes(damaged))


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"x" * 1000], ids=["empty", "pickle", "text"])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    """It is said what was expected."""
    assert "is not an archive: expected .tar.gz, .tar, .zip or .mar" in refusal(tmp_path, content)


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    """An archive without a file is no model."""
    assert "is an archive of nothing" in refusal(tmp_path, gzip.compress(tar_of()))


def test_bounds(tmp_path: Path) -> None:
    """What unpacks to too much, or holds too many entries, is refused before it fills anything."""
    bomb = gzip.compress(tar_of(("zeros", {}, bytes(50_000_000))))
    assert "unpacks to more than" in refusal(tmp_path, bomb, free_bytes=1000, ratio=100)
    assert "more than 3 entries" in refusal(tmp_path, MODEL, entries=3)


def test_a_sparse_file(tmp_path: Path) -> None:
    """A file that claims a size which it does not hold is bounded by what comes out."""
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 200_000_000)
    subprocess.run(["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "a.tar", "hole"], check=True)
    assert "unpacks to more than" in refusal(tmp_path, (tmp_path / "a.tar").read_bytes(), free_bytes=1000, ratio=100)


def test_a_full_disk(tmp_path: Path) -> None:
    """A file that cannot be written whole is one sentence, and nothing is left."""
    archive = written(tmp_path, MODEL)
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from sagemaker_inference_lite.archives.unpacking import unpack\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"unpack(Path({str(archive)!r}), Path({str(tmp_path / 'out')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"ArchiveError: {archive} cannot be unpacked into {tmp_path / 'out'}: File too large." in done.stderr
    assert list(tmp_path.iterdir()) == [archive]
