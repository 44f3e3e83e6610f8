# SPDX-License-Identifier: Apache-2.0
"""BentoML. It has no multi-model endpoint."""

from __future__ import annotations

from pathlib import Path

from benchmarks import environment
from benchmarks.peers.peer import SERVED, Job, Peer


class BentoML(Peer):
    """A BentoML service with as many workers as the others."""

    name = "bentoml"
    title = "BentoML"
    distributions = ("bentoml", "uvicorn", "numpy")
    ping_path = "/readyz"

    def build(self) -> Path:
        """See Peer."""
        return environment.build("bentoml")

    def command(self, job: Job) -> list[str]:
        """See Peer."""
        serve = [str(self.environment / "bin" / "bentoml"), "serve", "bentoml_service:Service"]
        return [*serve, f"--working-dir={SERVED}", "--host=127.0.0.1", f"--port={job.port}"]

    def environ(self, job: Job) -> dict[str, str]:
        """See Peer."""
        return {"BENTOML_HOME": str(job.directory / "home"), "BENTOML_DO_NOT_TRACK": "true"}

    def headers(self, content_type: str) -> dict[str, str]:
        """See Peer."""
        return {"Content-Type": "application/octet-stream"}
