# SPDX-License-Identifier: Apache-2.0
"""What `prepare` makes: an archive of the front end's classes and its native library, found by a server, of no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import serving

from sagemaker_inference_lite.cli import main
from sagemaker_inference_lite.errors import PreflightError
from sagemaker_inference_lite.mms import cds_archive, command, java, native_library

pytestmark = pytest.mark.once


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the archive for the Java at hand is, which is not there now and is removed again."""
    found = java.find_java({})
    path = cds_archive.archive_path(found, command.class_path(command.find_model_server_jar()))
    path.unlink(missing_ok=True)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def library() -> Iterator[Path]:
    """Where the native library is once it is unpacked, which it is not now."""
    path = native_library.place(command.find_model_server_jar())
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def answers(base_dir: Path, **environ: str) -> str:
    """What a server prints that starts, answers and stops."""
    (base_dir / "model").mkdir(exist_ok=True)
    (base_dir / "model" / "on_load").write_text("echo")
    with serving(base_dir, **environ) as server:
        assert server.invoke("echo on").text == "on"
    return server.output()


def test_prepare_makes_what_servers_use(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes the archive; a server says whether it has one, and Java finds no fault in it."""
    assert "its classes archived" not in answers(tmp_path)
    assert main(["prepare"], {}) == 0
    assert str(archive) in capsys.readouterr().out
    assert [each.name for each in archive.parent.iterdir()] == [archive.name]
    # Java ends where it cannot use the archive.
    printed = answers(tmp_path, SAGEMAKER_MODEL_SERVER_VMARGS="-Xshare:on")
    assert "its classes archived" in printed
    assert "[error]" not in printed
    assert "[warning]" not in printed


@pytest.mark.parametrize("vmargs", ["-XX:+UseParallelGC", "-XX:-UseCompressedOops", "-Xmx40g"])
def test_options_that_an_archive_does_not_fit_do_no_harm(archive: Path, tmp_path: Path, vmargs: str) -> None:
    """With another collector, or another layout of objects, the server starts all the same, and Java says nothing."""
    assert main(["prepare"], {}) == 0
    printed = answers(tmp_path, SAGEMAKER_MODEL_SERVER_VMARGS=vmargs)
    assert "[error]" not in printed
    assert "[warning]" not in printed


def test_a_broken_archive_does_no_harm(archive: Path, tmp_path: Path) -> None:
    """An archive that was cut short, or holds something else, is passed over."""
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(b"no archive" * 1000)
    assert "its classes archived" in answers(tmp_path)


def test_it_belongs_to_one_java_and_its_jars(archive: Path, tmp_path: Path) -> None:
    """Another Java, or another jar, has another archive; a Java that is too old has none."""
    jars = command.class_path(command.find_model_server_jar())
    found = java.find_java({})
    assert cds_archive.find(found, jars) is None
    archive.parent.mkdir(exist_ok=True)
    archive.touch()
    assert cds_archive.find(found, jars) == archive
    assert cds_archive.find(found._replace(version=16), jars) is None
    assert cds_archive.find(found, (jars[0], tmp_path)) is None
    assert cds_archive.find(found._replace(executable=tmp_path / "bin" / "java"), jars) is None


def place_java(home: Path, version: str, program: str) -> None:
    """Make a directory look like a Java's home."""
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text(program)
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"')


def test_a_java_that_is_too_old_for_an_archive_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: Path
) -> None:
    """The native library is unpacked for any Java; the command says why there is no archive, and an image is built."""
    place_java(tmp_path, "11.0.2", "")
    assert main(["prepare"], {"JAVA_HOME": str(tmp_path)}) == 0
    printed = capsys.readouterr().out
    assert "libnetty" in printed
    assert "no archive of classes: that takes Java 17, and this is Java 11 (JAVA_HOME)" in printed


def test_a_java_that_does_not_run_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: Path
) -> None:
    """What the server that was started for it printed is in the message."""
    place_java(tmp_path, "21.0.2", "#!/bin/sh\necho no Java at all; exit 4\n")
    assert main(["prepare"], {"JAVA_HOME": str(tmp_path)}) == 1
    assert "no Java at all" in capsys.readouterr().err
    assert not archive.exists()


def test_the_native_library_needs_no_temporary_directory(library: Path, tmp_path: Path) -> None:
    """Once it is unpacked, a server does not unpack it again: it is mapped from where it is."""
    jar = command.find_model_server_jar()
    assert native_library.find(jar) is None
    assert native_library.unpack(jar) == library
    assert native_library.find(jar) == library
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "on_load").write_text("echo")
    with serving(tmp_path) as server:
        (java_process,) = server.processes()["java"]
        assert str(library) in {each.path for each in java_process.memory_maps()}
        assert server.invoke("echo on").text == "on"


def test_a_jar_without_a_library_for_this_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the processor, and those that the front end runs on."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(PreflightError, match="x86-64 and arm64, and this is riscv64"):
        native_library.unpack(command.find_model_server_jar())
