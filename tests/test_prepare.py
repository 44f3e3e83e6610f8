# SPDX-License-Identifier: Apache-2.0
"""The archive of the front end's classes: made by `prepare`, found by a server, of no harm where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import serving

from sagemaker_inference_lite.cli import main
from sagemaker_inference_lite.mms import class_data, command, java


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the archive for the Java at hand is, which is not there now and is removed again."""
    found = java.find_java({})
    path = class_data.archive_path(found, command.class_path(command.find_model_server_jar()))
    path.unlink(missing_ok=True)
    monkeypatch.delenv("JAVA_HOME", raising=False)
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
    assert "without an archive of its classes" in answers(tmp_path)
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
    assert class_data.find(found, jars) is None
    archive.parent.mkdir(exist_ok=True)
    archive.touch()
    assert class_data.find(found, jars) == archive
    assert class_data.find(found._replace(version=16), jars) is None
    assert class_data.find(found, (jars[0], tmp_path)) is None
    assert class_data.find(found._replace(executable=tmp_path / "bin" / "java"), jars) is None


def place_java(home: Path, version: str, program: str) -> None:
    """Make a directory look like a Java's home."""
    (home / "bin").mkdir()
    (home / "bin" / "java").write_text(program)
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"')


def test_a_java_that_is_too_old_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """The command ends with the status of what is missing before anything is started, and says what is."""
    place_java(tmp_path, "11.0.2", "")
    assert main(["prepare"], {"JAVA_HOME": str(tmp_path)}) == 3
    assert "Java 11" in capsys.readouterr().err


def test_a_java_that_does_not_run_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], archive: Path
) -> None:
    """What the server that was started for it printed is in the message."""
    place_java(tmp_path, "21.0.2", "#!/bin/sh\necho no Java at all; exit 4\n")
    assert main(["prepare"], {"JAVA_HOME": str(tmp_path)}) == 1
    assert "no Java at all" in capsys.readouterr().err
    assert not archive.exists()
