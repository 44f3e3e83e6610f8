# SPDX-License-Identifier: Apache-2.0
"""LitServe. It has no multi-model endpoint."""

from __future__ import annotations

from pathlib import Path

from benchmarks import environment
from benchmarks.peers.peer import JSON, SERVED, Job, Peer


class LitServe(Peer):
    """A LitServe server with as many workers as the others, and as many web servers, which is its default."""

    name = "litserve"
    title = "LitServe"
    distributions = ("litserve", "uvicorn", "numpy")
    ping_path = "/health"

    def build(self) -> Path:
        """See Peer."""
        return environment.build("litserve")

    def command(self, job: Job) -> list[str]:
        """See Peer."""
        return [self.python(), str(SERVED / "litserve_server.py")]

    def environ(self, job: Job) -> dict[str, str]:
        """See Peer."""
        return {}

    def headers(self, content_type: str) -> dict[str, str]:
        """See Peer. A body that is not JSON reaches the handler as bytes."""
        return {"Content-Type": content_type if content_type == JSON else "application/octet-stream"}
