# SPDX-License-Identifier: Apache-2.0
"""Triton's SageMaker endpoint with the Python backend: the tritonserver that the nvidia-pytriton wheel carries.

That endpoint listens on all interfaces, and no option confines it to loopback, as the other peers are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import environment
from benchmarks.environment import version
from benchmarks.peers.peer import SERVED, Job, Peer

# Models that requests load must be there.
MODELS = Path("/opt/ml/models")

CONFIGURATION = """
backend: "python"
max_batch_size: 0
input [{{ name: "BODY" data_type: TYPE_UINT8 dims: [-1] }}]
output [{{ name: "ANSWER" data_type: TYPE_UINT8 dims: [-1] }}]
instance_group [{{ count: {workers} kind: KIND_CPU }}]
"""


class Triton(Peer):
    """tritonserver with the options of the `serve` script in NVIDIA's images, save that it logs no requests."""

    name = "triton"
    title = "Triton"
    distributions = ("nvidia-pytriton", "numpy", "scikit-learn")
    has_models = True
    ping_is_true = True

    def build(self) -> Path:
        """See Peer."""
        directory = environment.build("triton")
        self._packages = environment.site_packages(directory)
        self._server = self._packages / "pytriton" / "tritonserver"
        return directory

    def obstacle(self) -> str:
        """See Peer."""
        name = self.environment.name.rpartition("-py")[2]
        stub = self._server / "python_backend_stubs" / name / "triton_python_backend_stub"
        if not stub.is_file():
            return f"nvidia-pytriton {version(self.environment, 'nvidia-pytriton')} has nothing for Python {name}"
        shutil.copy(stub, self._server / "backends" / "python")
        said = subprocess.run(["ldd", str(stub)], capture_output=True, text=True, env=self._library_path(), timeout=20)
        missing = [line.split()[0] for line in said.stdout.splitlines() if "not found" in line]
        if missing:
            return f"its Python backend needs {', '.join(missing)}; on Debian: apt-get install libpython{name}"
        return self._take_models_directory()

    def _take_models_directory(self) -> str:
        above = [directory for directory in (MODELS, *MODELS.parents) if not directory.exists()]
        try:
            MODELS.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"it loads models from {MODELS} only, which cannot be made: {error.strerror}"
        self._made_directories = above
        return ""

    def clean_up(self) -> None:
        """Removes the models that were placed, and those directories above them that were not there before."""
        for directory in MODELS.glob("bench-*"):
            shutil.rmtree(directory, ignore_errors=True)
        for directory in self._made_directories:
            with contextlib.suppress(OSError):
                directory.rmdir()

    def place_model(self, job: Job, name: str | None) -> Path:
        """See Peer."""
        directory = job.directory / "model" if name is None else MODELS / name / "model"
        self.write_model(job, directory)
        return directory

    def write_model(self, job: Job, directory: Path) -> None:
        """See Peer."""
        shutil.rmtree(directory, ignore_errors=True)
        version_1 = directory / "model" / "1"
        version_1.mkdir(parents=True)
        (version_1.parent / "config.pbtxt").write_text(CONFIGURATION.format(workers=job.workers))
        shutil.copy(SERVED / "triton_model.py", version_1 / "model.py")
        # Its interpreter heeds no PYTHONPATH, and finds what lies beside model.py.
        for logic in ("arithmetic.py", "scikit_learn.py"):
            shutil.copy(SERVED / logic, version_1)
        shutil.copy(job.weights, version_1 / "weights.npy")

    def command(self, job: Job) -> list[str]:
        """See Peer."""
        repository = job.directory / ("none" if job.multi_model else "model")
        repository.mkdir(exist_ok=True)
        return [
            str(self._server / "bin" / "tritonserver"),
            "--allow-sagemaker=true",
            "--allow-grpc=false",
            "--allow-http=false",
            "--allow-metrics=false",
            "--model-control-mode=explicit",
            f"--model-repository={repository}",
            "--model-namespacing=true",
            f"--sagemaker-port={job.port}",
            f"--backend-directory={self._server / 'backends'}",
            "--backend-config=python,shm-default-byte-size=16777216",
            "--backend-config=python,shm-growth-byte-size=1048576",
            # Two servers may share /dev/shm, one after the other.
            f"--backend-config=python,shm-region-prefix-name=bench-{job.port}",
            "--exit-timeout-secs=5",
            *([] if job.multi_model else ["--load-model=model"]),
        ]

    def environ(self, job: Job) -> dict[str, str]:
        """See Peer."""
        return {
            **self._library_path(),
            "SAGEMAKER_MULTI_MODEL": str(job.multi_model).lower(),
            "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "model",
        }

    def _library_path(self) -> dict[str, str]:
        # The first has the libraries that the wheel brings; the second that of the interpreter, if it is shared.
        directories = [self._packages / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
        return {"LD_LIBRARY_PATH": os.pathsep.join(map(str, directories))}

    def headers(self, content_type: str) -> dict[str, str]:
        """See Peer. The body is the one tensor, without Triton's JSON header before it."""
        return {"Content-Type": "application/vnd.sagemaker-triton.binary+json;json-header-size=0"}
