# SPDX-License-Identifier: Apache-2.0
"""Starts that cannot succeed: what is said, how fast, and with which status."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path
from typing import Callable

import pytest
from running_server import PROGRAMS, Server, free_port

Start = Callable[..., Server]


def check_refused(server: Server, status: int, *sentences: str) -> None:
    """It ended with that status, said these things in a few lines, and left nothing behind."""
    assert server.ended() == status, server.output()
    for sentence in sentences:
        assert sentence in server.output()
    assert list(server.temporary.iterdir()) == []


def test_all_bad_settings_are_named_together(start: Start) -> None:
    """Every variable that cannot be used is reported, with its value and what was expected."""
    server = start(SAGEMAKER_MODEL_SERVER_WORKERS="two", SAGEMAKER_MULTI_MODEL="maybe", SAGEMAKER_BIND_TO_PORT="40000")
    check_refused(
        server,
        2,
        "SAGEMAKER_MODEL_SERVER_WORKERS='two'",
        "SAGEMAKER_MULTI_MODEL='maybe'",
        "SAGEMAKER_BIND_TO_PORT='40000'",
    )


def test_no_java_is_said_before_anything_starts(start: Start, tmp_path: Path) -> None:
    """A JAVA_HOME without Java is named, within a second of the program's own start."""
    begun = time.monotonic()
    check_refused(start(SAGEMAKER_MULTI_MODEL="true", JAVA_HOME=str(tmp_path)), 3, f"JAVA_HOME='{tmp_path}'", "[jre]")
    assert time.monotonic() - begun < 10


def test_a_port_in_use_is_named(start: Start) -> None:
    """Somebody else's port: which, and what to do."""
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        server = start(SAGEMAKER_MULTI_MODEL="true", MMS_INFERENCE_ADDRESS=f"http://127.0.0.1:{port}")
        check_refused(server, 3, f"Port {port} is in use", "SAGEMAKER_BIND_TO_PORT")


@pytest.mark.parametrize("state", ["missing", "empty", "a file"])
def test_a_model_directory_that_cannot_be_used_is_named(start: Start, tmp_path: Path, state: str) -> None:
    """Single-model mode: /opt/ml/model missing, empty or no directory."""
    directory = tmp_path / "model"
    if state == "empty":
        directory.mkdir()
    elif state == "a file":
        directory.write_text("")
    check_refused(start(), 3, f"The model directory {directory} ", "SAGEMAKER_BASE_DIR")


HANDLERS = {
    "nowhere.py:handle": "there is no file",
    "no.such.module:handle": "there is no module 'no'",
    f"{PROGRAMS / 'commanded_handler.py'}:absent": "has no function 'absent'",
    "broken.py:handle": "SyntaxError",
    "needs.py:handle": "No module named 'a_library_that_is_missing'",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_that_cannot_be_used_stops_the_start(start: Start, tmp_path: Path, handler: str) -> None:
    """Not found, not importable, no entry point: said once, with what was looked for; nothing ever listens."""
    (tmp_path / "broken.py").write_text("def handle(:\n")
    (tmp_path / "needs.py").write_text("import a_library_that_is_missing\n")
    server = start(handler, SAGEMAKER_MULTI_MODEL="true")
    check_refused(server, 4, "HandlerError: The handler ", HANDLERS[handler])
    assert "ready on http" not in server.output()


def test_a_module_to_preload_that_does_not_exist_is_named(start: Start) -> None:
    """SAGEMAKER_MODEL_SERVER_PRELOAD with a wrong name stops the start."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_PRELOAD="json,no_such_module")
    check_refused(server, 4, "SAGEMAKER_MODEL_SERVER_PRELOAD names 'no_such_module'")


def test_an_import_that_never_ends_is_bounded(start: Start, tmp_path: Path) -> None:
    """A handler whose import hangs ends the start at SAGEMAKER_STARTUP_TIMEOUT."""
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    server = start("hangs.py:handle", SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_STARTUP_TIMEOUT="2")
    check_refused(server, 5, "StartTimeoutError: The server did not import the handler within 2 seconds.")


def test_a_module_to_preload_that_takes_too_long_is_named(start: Start, tmp_path: Path) -> None:
    """The error at SAGEMAKER_STARTUP_TIMEOUT says which module of SAGEMAKER_MODEL_SERVER_PRELOAD it was."""
    (tmp_path / "takes_long.py").write_text("import time\ntime.sleep(600)\n")
    server = start(
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_STARTUP_TIMEOUT="2",
        SAGEMAKER_MODEL_SERVER_PRELOAD="json,takes_long",
        PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")])),
    )
    named = "import 'takes_long' (SAGEMAKER_MODEL_SERVER_PRELOAD) within 2 seconds."
    check_refused(server, 5, f"StartTimeoutError: The server did not {named}")


def test_models_do_not_see_what_others_do_to_a_preloaded_module(start: Start, tmp_path: Path) -> None:
    """A model that changes a preloaded module's state changes its own copy, before and after others are loaded."""
    (tmp_path / "shared.py").write_text("SEEN = []\n")
    server = start(
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_MODEL_SERVER_PRELOAD="shared",
        PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")])),
    ).ready()
    for name in ("a", "b"):
        assert server.load(name).status_code == 200
    assert server.invoke("imported shared", "b").text == "True"
    assert [server.invoke("add shared x", name).text for name in ("a", "a", "b")] == ["x", "x x", "x"]
    assert server.load("c").status_code == 200
    assert server.invoke("add shared y", "c").text == "y"
    assert server.stop() == 0


def test_java_options_that_it_refuses_end_the_start(start: Start) -> None:
    """SAGEMAKER_MODEL_SERVER_VMARGS reaches Java, whose own words and status come out."""
    server = start(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_VMARGS="-Xmx1g -XX:+NoSuchOption")
    check_refused(server, 1, "Unrecognized VM option 'NoSuchOption'", "The front end (Java) exited with status 1")


def test_limits_of_mms_hold_for_workers_too(start: Start) -> None:
    """MMS_MAX_REQUEST_SIZE, MMS_MAX_RESPONSE_SIZE and MMS_BLACKLIST_ENV_VARS are in force on both sides."""
    server = start(
        SAGEMAKER_MULTI_MODEL="true",
        SAGEMAKER_MAX_PAYLOAD_IN_MB="1",
        MMS_MAX_REQUEST_SIZE=str(3 << 20),
        MMS_MAX_RESPONSE_SIZE=str(3 << 20),
        MMS_BLACKLIST_ENV_VARS=".*SECRET.*",
        MY_SECRET_KEY="s3cret",
    ).ready()
    server.load("m")
    assert server.invoke(b"size".ljust(3 << 20, b"\0"), "m").text == str(3 << 20)
    assert len(server.invoke("answer_of 3", "m").content) == 3 << 20
    assert server.invoke("environ MY_SECRET_KEY", "m").text == ""
    assert server.stop() == 0


def test_a_quiet_start(start: Start) -> None:
    """A start prints its own few lines: no warning of Java's, nothing of MMS's configuration."""
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    assert server.stop() == 0
    lines = [line for line in server.output().splitlines() if "[INFO] sagemaker_inference_lite" not in line]
    assert lines == []


def test_nothing_is_written_but_the_private_directory(start: Start, tmp_path: Path) -> None:
    """The working directory and the model directories may be read-only; nothing is tried there."""
    model = tmp_path / "models" / "m" / "model"
    model.mkdir(parents=True)
    (model / "on_load").write_text("echo")
    server = start(SAGEMAKER_MULTI_MODEL="true").ready()
    server.load("m")
    server.invoke("echo", "m")
    assert set(tmp_path.rglob("*")) == {server.log, tmp_path / "models", model.parent, model, model / "on_load"}
    (private,) = server.temporary.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert list(server.temporary.iterdir()) == []


def test_mms_variables_overrule_what_is_written(start: Start) -> None:
    """MMS_* variables are in force as MMS documents; those that would replace the whole configuration are named."""
    server = start(
        SAGEMAKER_MULTI_MODEL="true", MMS_DEFAULT_WORKERS_PER_MODEL="3", MMS_CONFIG_FILE="/etc/mms.properties"
    )
    server.ready()
    server.load("m")
    assert len(server.processes()["worker"]) == 3
    assert "MMS_CONFIG_FILE='/etc/mms.properties' has no effect" in server.output()
    assert server.stop() == 0


def test_the_limit_of_mms_is_in_seconds(start: Start) -> None:
    """MMS_DEFAULT_RESPONSE_TIMEOUT limits a request, where SAGEMAKER_MODEL_SERVER_TIMEOUT says something else."""
    server = start(
        SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_TIMEOUT="40", MMS_DEFAULT_RESPONSE_TIMEOUT="1"
    ).ready()
    server.load("m", "sleep 1.5")  # a load has a limit of its own
    assert server.invoke("sleep 20", "m").status_code == 504
    assert "took longer than 1 seconds" in server.output()
    assert server.stop() == 0


def test_mistakes_in_variables_of_mms_end_the_start(start: Start) -> None:
    """They are named with the others, and nothing is started."""
    server = start(SAGEMAKER_MULTI_MODEL="maybe", MMS_JOB_QUEUE_SIZE="many", MMS_DEFAULT_RESPONSE_TIMEOUT="soon")
    names = ("SAGEMAKER_MULTI_MODEL='maybe'", "MMS_JOB_QUEUE_SIZE='many'", "MMS_DEFAULT_RESPONSE_TIMEOUT='soon'")
    check_refused(server, 2, "3 settings cannot be used", *names)
