# SPDX-License-Identifier: Apache-2.0
"""A container that serves, and that is asked as SageMaker asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import docker
import psutil
from docker.models.containers import Container as DockerContainer
from docker.models.images import Image
from running_server import PROGRAMS, Endpoint, free_port

BASE_DIR = Path("/opt/ml")
COMMANDED = "/programs/commanded_handler.py:handle"

# Asks a server in a container without a network, from inside.
_ASK = """
import sys, urllib.error, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() if body else None, {"Content-Type": "application/json"})
try:
    answer = urllib.request.urlopen(request, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode(), end="")
"""


class Container(Endpoint):
    """One container. It has the machine's network and a port of its own, unless the options say otherwise.

    Args:
        base_dir: What it sees as /opt/ml, read-only.
        command: What stands behind the image's name in ``docker run``.
        environ: Its environment.
        options: Of the docker package's ``containers.run``.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        image: Image,
        base_dir: Path,
        command: str | list[str] = "serve",
        environ: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}", base_dir, BASE_DIR)
        volumes = {
            str(base_dir): {"bind": str(BASE_DIR), "mode": "ro"},
            str(PROGRAMS): {"bind": "/programs", "mode": "ro"},
        }
        keywords: dict[str, Any] = {
            "environment": {"SAGEMAKER_BIND_TO_PORT": str(port), **(environ or {})},
            "volumes": volumes,
            "network_mode": "host",
            **options,
        }
        self.container: DockerContainer = client.containers.run(image, command, detach=True, **keywords)

    def output(self) -> str:
        """What ``docker logs`` shows."""
        return self.container.logs().decode(errors="replace")

    def end(self) -> int | None:
        """Its exit status; None while it runs."""
        self.container.reload()
        status: int = self.container.attrs["State"]["ExitCode"]
        return status if self.container.status == "exited" else None

    def run_inside(self, *argv: str) -> tuple[int, str]:
        """Run a command in it; the status, and what it printed."""
        status, output = self.container.exec_run(list(argv))
        assert isinstance(output, bytes)
        return status or 0, output.decode()

    def ask_inside(self, path: str, body: str = "", port: int = 8080) -> tuple[int, str]:
        """Ask it from inside: the status and the body; a status of 0 where nobody listens."""
        status, output = self.run_inside("python3", "-c", _ASK, f"http://127.0.0.1:{port}{path}", body)
        number, _, text = output.partition(" ")
        return (0, output) if status else (int(number), text)

    def processes(self) -> dict[str, psutil.Process]:
        """Java and the zygote, the children of the container's first process."""
        self.container.reload()
        children = psutil.Process(self.container.attrs["State"]["Pid"]).children()
        return {"java" if child.name() == "java" else "zygote": child for child in children}

    def wait(self, seconds: float = 40.0) -> int:
        """Wait for its end; its exit status."""
        status: int = self.container.wait(timeout=seconds)["StatusCode"]
        return status

    def stop(self) -> int:
        """``docker stop``, with the 30 seconds that SageMaker gives; the exit status."""
        self.container.stop(timeout=30)
        return self.wait()

    def remove(self) -> None:
        """End it whatever state it is in, and remove it."""
        self.container.remove(force=True)


# Runs a container: of an image, with a command, an environment and options.
Serve = Callable[..., Container]
