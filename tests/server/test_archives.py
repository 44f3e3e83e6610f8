# SPDX-License-Identifier: Apache-2.0
"""Models that are loaded from an archive: what is unpacked, what is refused, and that nothing of it stays."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import os
import stat
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest
import requests
from running_server import Server, eventually

pytestmark = pytest.mark.once

MIB = 1 << 20
NOT_ALONE = "; a model's archive has files and directories alone"


def load(server: Server, url: Path | str, name: str = "m") -> tuple[int, str]:
    """The status and the message of a load."""
    answer = requests.post(server.url + "/models", json={"model_name": name, "url": str(url)}, timeout=60)
    return answer.status_code, answer.json().get("message", "")


def unpacked(server: Server) -> list[Path]:
    """What is unpacked at the moment."""
    (private,) = server.temporary.iterdir()
    return [*(private / "models").glob("*")]


def member(name: str, **attributes: Any) -> tarfile.TarInfo:
    """An entry of a tar file."""
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def tar(*members: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A compressed tar file with a model and these entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as archive:
        for each in (("on_load", b"echo"), *members):
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
            else:
                info = member(each[0], size=len(each[1]))
                archive.addfile(info, io.BytesIO(each[1]))
    return out.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    """A zip file with a model and these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("on_load", b"echo"), *members):
            archive.writestr(name, content)
    return out.getvalue()


NOISE = os.urandom(100_000)
LONG = "/".join(["d" * 90] * 3 + ["f" * 120])


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)
def test_a_tar_file_of_each_form(multi: Server, tmp_path: Path, form: int) -> None:
    """Names that a header has no room for, empty files, directories, programs; gone when the model is unloaded."""
    long = "/".join(["d" * 90, "f" * 99]) if form == tarfile.USTAR_FORMAT else LONG
    archive = tmp_path / "model.tar.gz"
    content = os.urandom(3 * MIB + 5)
    archive.write_bytes(
        tar(
            member("./", type=tarfile.DIRTYPE),
            member("empty", type=tarfile.DIRTYPE, mode=0o755),
            (long, content),
            member("./code/nothing.py"),
            member("run", mode=0o755),
            form=form,
        )
    )
    assert load(multi, archive)[0] == 200
    cwd = Path(multi.invoke("cwd", "m").text)
    assert [cwd] == unpacked(multi)
    assert (cwd / long).read_bytes() == content
    assert (cwd / "code" / "nothing.py").read_bytes() == b""
    assert list((cwd / "empty").iterdir()) == []
    assert stat.S_IMODE((cwd / "run").stat().st_mode) & 0o111
    assert not stat.S_IMODE((cwd / "on_load").stat().st_mode) & 0o111
    assert multi.unload("m").status_code == 200
    assert eventually(lambda: unpacked(multi) == [])


def test_a_tar_file_as_the_command_packs_it(multi: Server, tmp_path: Path) -> None:
    """``tar czf model.tar.gz .`` of a model's directory, under any name: what it is, its beginning says."""
    source = tmp_path / "source"
    (source / "code").mkdir(parents=True)
    (source / "on_load").write_text("echo")
    archive = tmp_path / "wine"
    assert os.spawnlp(os.P_WAIT, "tar", "tar", "czf", str(archive), "-C", str(source), ".") == 0
    assert load(multi, archive)[0] == 200
    assert (Path(multi.invoke("cwd", "m").text) / "code").is_dir()
    assert multi.unload("m").status_code == 200


def test_names_that_are_not_ascii(start: Callable[..., Server], tmp_path: Path) -> None:
    """Of models, their directories and what is in an archive, whatever the locale."""
    server = start(SAGEMAKER_MULTI_MODEL="true", LC_ALL="C").ready()
    assert server.load("größe").status_code == 200
    archive = tmp_path / "größe.tar.gz"
    archive.write_bytes(tar(("größe.bin", b"x")))
    assert load(server, archive)[0] == 200
    assert (Path(server.invoke("cwd", "m").text) / "größe.bin").read_bytes() == b"x"
    assert server.stop() == 0


def test_an_archive_that_is_downloaded(start: Callable[..., Server], tmp_path: Path) -> None:
    """Where that is allowed; it is unpacked, or refused, as a file is."""
    (tmp_path / "whole").write_bytes(tar(("weights", NOISE)))
    (tmp_path / "half").write_bytes(tar(("weights", NOISE))[:50_000])
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{files.server_port}"
        server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_ALLOW_MODEL_DOWNLOAD="true").ready()
        assert load(server, f"{address}/whole")[0] == 200
        assert (Path(server.invoke("cwd", "m").text) / "weights").read_bytes() == NOISE
        status, message = load(server, f"{address}/half", "half")
        assert (status, message.startswith(f"{address}/half is truncated or corrupt: ")) == (400, True)
        assert load(server, f"{address}/none", "none")[0] == 400
        assert len(unpacked(server)) == 1
        files.shutdown()
    assert server.stop() == 0


REFUSED_ENTRIES: dict[str, tuple[tarfile.TarInfo | tuple[str, bytes], str]] = {
    "link": (
        member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        f"x is a link to /etc/passwd{NOT_ALONE}: pack what it leads to, with tar --dereference",
    ),
    "hard link": (
        member("x", type=tarfile.LNKTYPE, linkname="on_load"),
        f"x is a hard link to on_load{NOT_ALONE}: pack it with tar --hard-dereference",
    ),
    "device": (member("dev/x", type=tarfile.CHRTYPE), f"dev/x is a device{NOT_ALONE}"),
    "pipe": (member("x", type=tarfile.FIFOTYPE), f"x is a named pipe{NOT_ALONE}"),
    "unknown": (member("x", type=b"V"), f"x is of the unknown kind V{NOT_ALONE}"),
    "sparse": (
        member("x", pax_headers={"GNU.sparse.major": "1"}),
        f"x is a sparse file{NOT_ALONE}: pack it without --sparse",
    ),
    "absolute": (
        ("/tmp/x", b""),
        "/tmp/x has an absolute path, and would be written outside of the model's directory",
    ),
    "parent": (("a/../../x", b""), "a/../../x would be written outside of the model's directory"),
    "long": (("x" * 256, b""), f"{'x' * 200}... has a name of more than 255 bytes"),
    "file": (("on_load/x", b""), "on_load/x needs a directory where the archive has a file"),
    "escapes": (member("\x1b[31m\n", type=tarfile.FIFOTYPE), f"?[31m? is a named pipe{NOT_ALONE}"),
}


@pytest.mark.parametrize("kind", REFUSED_ENTRIES)
def test_an_entry_that_is_refused(multi: Server, tmp_path: Path, kind: str) -> None:
    """The answer names it; nothing has been written outside, and nothing is left."""
    entry, why = REFUSED_ENTRIES[kind]
    archive = tmp_path / "model.tgz"
    archive.write_bytes(tar(entry, ("behind", b"")))
    assert load(multi, archive) == (400, f"{archive} is not unpacked: its entry {why}.")
    assert unpacked(multi) == []
    assert multi.listed() == []


@pytest.mark.parametrize("name", ["/tmp/x", "../x", "on_load/x"])
def test_an_entry_of_a_zip_file_that_is_refused(multi: Server, tmp_path: Path, name: str) -> None:
    """The same rules."""
    archive = tmp_path / "model.mar"
    archive.write_bytes(zipped((name, b"")))
    status, message = load(multi, archive)
    assert (status, message.startswith(f"{archive} is not unpacked: its entry {name} ")) == (400, True)
    assert unpacked(multi) == []


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_that_is_cut_off(multi: Server, tmp_path: Path, pack: Callable[..., bytes]) -> None:
    """Wherever: it is refused in a sentence, and nothing is left."""
    whole = pack(("weights", NOISE), ("last", b"x"))
    archive = tmp_path / "model"
    for end in (2, 3, 9, 20, 200, 50_000, len(whole) - 60, len(whole) - 23, len(whole) - 5):
        archive.write_bytes(whole[:end])
        status, message = load(multi, archive)
        assert status == 400, (end, message)
        assert message.startswith((f"{archive} is truncated or corrupt: ", f"{archive} is an archive of nothing"))
        assert message.endswith(".")
    assert unpacked(multi) == []


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_that_is_damaged(multi: Server, tmp_path: Path, pack: Callable[..., bytes]) -> None:
    """A bit that has changed in a file's content is found out by its checksum."""
    whole = bytearray(pack(("weights", NOISE)))
    whole[50_000] ^= 4
    archive = tmp_path / "model"
    archive.write_bytes(whole)
    status, message = load(multi, archive)
    assert (status, message.startswith(f"{archive} is truncated or corrupt: ")) == (400, True)
    assert unpacked(multi) == []


HEADER = bytearray(gzip.decompress(tar())[:512])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is neither a directory nor an archive (.tar.gz, .zip, .mar): give the directory that the model's files"),
        (b"\x80\x04 a pickle", "is neither a directory nor an archive"),
        (gzip.compress(b"{}"), "is truncated or corrupt: no tar file is in it."),
        (gzip.compress(b"x" * 10_000), "is truncated or corrupt: no tar file is in it."),
        (gzip.compress(bytes(1024)), "is an archive of nothing: it has no file in it."),
        (gzip.compress(bytes(HEADER)), "is truncated or corrupt: it ends within on_load."),
        (gzip.compress(bytes(HEADER) + bytes(512)), "is truncated or corrupt: it ends where a further entry should"),
        (gzip.compress(bytes(HEADER[:-1] + b"x")), "is truncated or corrupt: no tar file is in it."),
        (zipfile.ZipFile(io.BytesIO(), "w").fp.getvalue() or b"PK\5\6" + bytes(18), "is an archive of nothing"),  # type: ignore[union-attr]
    ],
    ids="empty pickle text large zeros unfinished endless checksum zip".split(),
)
def test_what_is_no_archive(multi: Server, tmp_path: Path, content: bytes, why: str) -> None:
    """It is said what it is not, and what is wanted."""
    archive = tmp_path / "model"
    archive.write_bytes(content)
    status, message = load(multi, archive)
    assert (status, message[: len(f"{archive} {why}")]) == (400, f"{archive} {why}")
    assert unpacked(multi) == []


@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_of_zeros(multi: Server, tmp_path: Path, pack: Callable[..., bytes]) -> None:
    """What grows by more than a model does is refused before it has filled the disk."""
    archive = tmp_path / "model"
    archive.write_bytes(pack(("zeros", bytes(300 * MIB))))
    told = f"{archive} is not unpacked: it unpacks to more than 200 times its size, as no model does."
    assert load(multi, archive) == (400, told)
    assert unpacked(multi) == []


def test_an_archive_larger_than_the_disk(multi: Server, tmp_path: Path) -> None:
    """A size for which there is no room is refused before anything is written: 507, on which others are unloaded."""
    info = member("huge", size=1 << 60)
    header = info.tobuf(tarfile.GNU_FORMAT)
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(gzip.compress(header + bytes(5000)))
    status, message = load(multi, archive)
    assert status == 507
    assert message.startswith(f"There is no room to unpack {archive}: the disk of ")
    assert unpacked(multi) == []


def test_an_archive_of_too_many_entries(multi: Server, tmp_path: Path) -> None:
    """A hundred thousand are enough."""
    one = member("d", type=tarfile.DIRTYPE).tobuf(tarfile.USTAR_FORMAT)
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(gzip.compress(one * 100_001 + bytes(1024), 1))
    assert load(multi, archive) == (400, f"{archive} is not unpacked: it has more than 100000 entries.")
    assert unpacked(multi) == []
