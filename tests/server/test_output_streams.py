# SPDX-License-Identifier: Apache-2.0
"""What handlers and models do to stdout and stderr costs them their own lines, and nothing and nobody else."""

from __future__ import annotations

from typing import Callable

import orjson
import psutil
import pytest
from running_server import PROGRAMS, Server, all_gone, eventually

Start = Callable[..., Server]

BREAKS = ("codecs", "tee", "none", "closed", "refuses", "logging", "descriptors")


def assert_it_serves(server: Server, model: str | None = None) -> None:
    """Requests are answered, and the log has why one is not."""
    assert server.invoke("echo right", model).text == "right"
    failed = server.invoke("raise", model)
    assert failed.status_code == 500
    error_id = orjson.loads(failed.content)["error"]["id"]
    eventually(lambda: f"error id {error_id}: ValueError: the secret" in server.output())


@pytest.mark.parametrize("what", ["codecs", "tee", "none", "logging", "descriptors"])
def test_at_import(start_single: Start, what: str) -> None:
    """A handler that breaks them when it is imported: it is served by one worker after the other, and stops."""
    handler = f"{PROGRAMS / 'breaks_streams.py'}:handle"
    server = start_single(handler=handler, BREAKS=what, SAGEMAKER_MODEL_SERVER_WORKERS="1").ready()
    assert_it_serves(server)
    assert server.invoke("vanish 3").status_code == 500
    assert_it_serves(server)
    assert server.stop() == 0
    assert "Traceback" not in server.output().partition("asked to stop")[2]


def test_at_the_load_of_a_model_that_is_shared(start_single: Start) -> None:
    """The same where workers are forked from a process that has loaded the model."""
    server = start_single("break descriptors", SAGEMAKER_MODEL_SERVER_SHARE_MODEL="true").ready()
    assert_it_serves(server)
    assert server.stop() == 0


@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("when", ["load", "request"])
def test_at_a_load_or_a_request(multi: Server, model: str, what: str, when: str) -> None:
    """A model that breaks them is served as before, ends in an orderly way, and its neighbour prints."""
    assert multi.load(model, f"break {what}" if when == "load" else "").status_code == 200
    if when == "request":
        assert multi.invoke(f"break {what}", model).text == "broken"
    assert_it_serves(multi, model)
    worker = psutil.Process(int(multi.invoke("pid", model).text))
    multi.unload(model)
    eventually(lambda: all_gone([worker]))
    assert f"the worker of model {model} failed" not in multi.output()


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_command_without_them(start: Start, closed: str) -> None:
    """A server that was started without stdout or stderr serves, and what is printed reaches no socket of its."""
    server = start(closed=closed, SAGEMAKER_MULTI_MODEL="true").ready()
    assert server.load("m").status_code == 200
    assert server.invoke("print_lines 3", "m").text == "printed"
    assert server.invoke("raise", "m").status_code == 500
    assert server.stop() == 0


def test_odd_characters_are_printed(multi: Server, model: str) -> None:
    """print() of what has no encoding is no error, and is an escape in the log."""
    multi.load(model)
    assert multi.invoke("print_escaped half \\ud800", model).text == "printed"
    eventually(lambda: multi.output().count(f"[{model}] half \\ud800\n") == 2)


@pytest.mark.parametrize("command", ["log_escaped", "raise_escaped", "refuse_escaped"])
def test_odd_characters_are_logged_and_sent(multi: Server, model: str, command: str) -> None:
    """A text with half of a surrogate pair, and with control characters, is one record; a body is JSON for anybody."""
    multi.load(model)
    answer = multi.invoke(f"{command} half \\ud800 \\x1b[2J \\x85 end", model)
    assert answer.status_code == {"log_escaped": 200, "raise_escaped": 500, "refuse_escaped": 422}[command]
    if command != "log_escaped":
        assert orjson.loads(answer.content)["error"]["id"]
    shown = "half \\ud800 \\x1b[2J \\x85 end\n"
    eventually(lambda: any(model in line and line.endswith(shown) for line in multi.output().splitlines(True)))
    assert "Logging error" not in multi.output()


def test_an_error_without_a_text(multi: Server, model: str) -> None:
    """An error whose text raises is an error like others, of a request and of a load."""
    multi.load(model)
    assert multi.invoke("raise_mute", model).status_code == 500
    assert multi.load(model + "2", "raise_mute").status_code == 500
    sentence = "MuteError: its text cannot be had: LookupError"
    eventually(lambda: multi.output().count(sentence) >= 2)
    assert "Logging error" not in multi.output()
