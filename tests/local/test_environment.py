# SPDX-License-Identifier: Apache-2.0
"""The environment of a local server: which of an option, --env and a variable wins."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sagemaker_inference_lite.errors import JavaNotFoundError, SettingsError
from sagemaker_inference_lite.local import environment
from sagemaker_inference_lite.local.environment import Asked, server_environment
from sagemaker_inference_lite.mms import properties

BASE = Path("/b")


def test_what_serve_sets() -> None:
    """Where the models are, how many they may be, and that it listens at one address; nothing else."""
    environ = server_environment({"HOME": "/h"}, Asked(), BASE, 8081, several=True)
    assert environ == {
        "HOME": "/h",
        "SAGEMAKER_BASE_DIR": "/b",
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": "8081",
        "SAGEMAKER_MODEL_SERVER_ACCESS_LOG": "all",
        "TMPDIR": "/b/tmp",
        "MMS_INFERENCE_ADDRESS": "http://127.0.0.1:8081",
        "MMS_MANAGEMENT_ADDRESS": "http://127.0.0.1:8081",
    }


def test_one_model_is_not_managed_from_outside() -> None:
    """With one model the management interface stays where a container has it, on a socket of the server's own."""
    assert "MMS_MANAGEMENT_ADDRESS" not in server_environment({}, Asked(), BASE, 8081, several=False)


def test_options_win_over_variables_and_env_over_both() -> None:
    """An option wins over every variable that sets the same, those of the front end among them; --env over all."""
    environ = {
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "1",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "2",
        "MMS_DEFAULT_WORKERS_PER_MODEL": "3",
        "SAGEMAKER_HANDLER": "a:b",
        "MMS_JOB_QUEUE_SIZE": "7",
    }
    asked = Asked(timeout=5, workers=2, handler="c:d", variables=(("SAGEMAKER_MODEL_SERVER_ACCESS_LOG", "errors"),))
    made = server_environment(environ, asked, BASE, 8080, several=False)
    settings = properties.read_settings(made)
    assert (settings.model_server_timeout, settings.model_server_workers, settings.handler) == (5, 2, "c:d")
    assert "MMS_DEFAULT_WORKERS_PER_MODEL" not in made
    assert made["MMS_JOB_QUEUE_SIZE"] == "7"
    assert made["SAGEMAKER_MODEL_SERVER_ACCESS_LOG"] == "errors"
    kept = server_environment(environ, Asked(), BASE, 8080, several=False)
    assert properties.read_settings(kept).model_server_timeout == 2


def test_what_the_command_itself_says_cannot_be_set() -> None:
    """--env is refused for what the command must know itself, with what says it instead, and for no values."""
    with pytest.raises(SettingsError) as caught:
        environment.check_variables({}, [("SAGEMAKER_BIND_TO_PORT", "1"), ("SAGEMAKER_BASE_DIR", "/x")])
    assert caught.value.problems == (
        "--env SAGEMAKER_BIND_TO_PORT: --port says it",
        "--env SAGEMAKER_BASE_DIR: PATH says what is served",
    )
    with pytest.raises(SettingsError, match="SAGEMAKER_STARTUP_TIMEOUT='x'"):
        environment.check_variables({}, [("SAGEMAKER_STARTUP_TIMEOUT", "x")])


def test_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that the environment asks for counts as asked for; without one the first that is free is taken."""
    assert environment.asked_port({}) is None
    assert environment.asked_port({"SAGEMAKER_BIND_TO_PORT": "9000"}) == 9000
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not environment.is_free("127.0.0.1", port)
        monkeypatch.setattr(environment, "DEFAULT_PORT", port)
        assert environment.free_port("127.0.0.1") != port


def test_no_java_says_which_extra_brings_it(tmp_path: Path) -> None:
    """What is missing is said before anything starts, with the extra of a laptop."""
    with pytest.raises(JavaNotFoundError, match=r"pip install 'sagemaker_inference_lite\[local\]'"):
        environment.check_installed({"JAVA_HOME": str(tmp_path)})


def test_hosts() -> None:
    """Which hosts only this machine reaches, and how it reaches what listens at all of its addresses."""
    assert [environment.is_loopback(host) for host in ("127.0.0.1", "localhost", "0.0.0.0", "10.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]
    assert environment.reached_at("0.0.0.0") == "127.0.0.1"
    assert environment.reached_at("10.0.0.1") == "10.0.0.1"
