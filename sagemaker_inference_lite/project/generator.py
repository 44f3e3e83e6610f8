# SPDX-License-Identifier: Apache-2.0
"""Makes a container project: files from templates/, with a few names filled in."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.errors import InferenceLiteError

_TEMPLATES = "sagemaker_inference_lite.project"
_EXECUTABLE = (".sh",)


class ProjectError(InferenceLiteError):
    """A project cannot be made."""


class Framework(NamedTuple):
    """What a project is for.

    Attributes:
        title: What people call it.
        file: What the training writes.
        in_image: What the image needs, a line each.
        for_training: What the training needs beside that.
        system: Lines of the Dockerfile that install what no wheel brings.
    """

    title: str
    file: str
    in_image: tuple[str, ...]
    for_training: tuple[str, ...] = ("scikit-learn>=1.3",)  # which has the data
    system: str = ""


_LIBGOMP = """# LightGBM's wheel takes OpenMP's library from the system.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

"""

FRAMEWORKS = {
    "sklearn": Framework("scikit-learn", "model.joblib", ("scikit-learn>=1.3",), ()),
    # The build without CUDA, which is smaller by hundreds of megabytes.
    "xgboost": Framework("XGBoost", "model.ubj", ("xgboost-cpu>=2.1",)),
    "lightgbm": Framework("LightGBM", "model.txt", ("lightgbm>=4",), system=_LIBGOMP),
    "pytorch": Framework("PyTorch", "model.pt", ("torch>=2.2",)),
    "onnx": Framework("ONNX Runtime", "model.onnx", ("onnxruntime>=1.16",), ("scikit-learn>=1.3", "skl2onnx>=1.16")),
    "custom": Framework("code of your own", "centres.npy", ("numpy>=1.21",)),
}
_MODELS = ("iris", "wine")
# What whoever works on the project needs.
_FOR_WORK = (
    *("-r requirements.txt", "sagemaker_inference_lite[local]"),
    *("boto3>=1.34", "pytest>=8", "requests>=2.31"),
)


def generate(directory: Path, framework: str, several: bool = False, force: bool = False) -> list[Path]:
    """Makes a project.

    Args:
        directory: Where. It must not exist, or be empty, unless force is given.
        framework: One of FRAMEWORKS.
        several: Whether it is for a multi-model endpoint.
        force: Write into a directory that holds files, over those of the same names.

    Returns:
        The files, relative to the directory.

    Raises:
        ProjectError: The directory holds files, or cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise ProjectError(f"{directory} is a file; name a directory that is new or empty.")
    if directory.is_dir() and any(directory.iterdir()) and not force:
        raise ProjectError(
            f"{directory} holds files, and nothing was written. Name another directory, or write over files of the "
            "same names with --force."
        )
    files = _files(framework, several)
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that nothing half-made is there where this is interrupted.
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name or 'project'}-", dir=directory.absolute().parent))
        try:
            for name, text in files.items():
                _write(made / name, text)
            made.chmod(0o755)
            if directory.is_dir() and any(directory.iterdir()):
                shutil.copytree(made, directory, dirs_exist_ok=True)
            else:
                os.replace(made, directory)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ProjectError(f"{directory} cannot be written: {error.strerror or error}.") from error
    return [Path(name) for name in files]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if path.suffix in _EXECUTABLE else 0o644)


def _files(framework: str, several: bool) -> dict[str, str]:
    about = FRAMEWORKS[framework]
    words = {
        "FRAMEWORK": about.title,
        "FILE": about.file,
        "SYSTEM": about.system,
        "SERVE": "models/iris models/wine" if several else "model/",
        "ASK": "invoke iris" if several else "invoke",
        "MODE": "several" if several else "one",
        "FIRST": "models/iris" if several else "model",
        "MOUNT": '-e SAGEMAKER_MULTI_MODEL=true -v "$PWD/models:/opt/ml/models:ro"'
        if several
        else '-v "$PWD/model:/opt/ml/model:ro"',
        "PACK": "pack models/iris -o iris.tar.gz && sagemaker-inference-lite pack models/wine -o wine.tar.gz"
        if several
        else "pack model -o model.tar.gz",
        "UP": "deploy.py up --multi-model IMAGE ROLE BUCKET iris.tar.gz wine.tar.gz"
        if several
        else "deploy.py up IMAGE ROLE BUCKET model.tar.gz",
    }
    files = {name: _filled(_template("common", name), words) for name in _COMMON}
    files["requirements.txt"] = "".join(f"{line}\n" for line in about.in_image)
    files["requirements-dev.txt"] = "".join(f"{line}\n" for line in (*_FOR_WORK, *about.for_training))
    common = _template("train", "several.py" if several else "one.py")
    files["train.py"] = _filled(_template("train", f"{framework}.py") + "\n\n" + common, words)
    files["tests/test_model.py"] = _filled(_template("common/tests", f"{words['MODE']}.py"), words)
    if framework == "custom":
        for place in [f"models/{name}" for name in _MODELS] if several else ["model"]:
            files[f"{place}/code/inference.py"] = _template("train", "inference.py")
    files["build_and_push.sh"] = _template("common", "build_and_push.sh")
    return {_named(name): text for name, text in files.items()}


# Of "common"; a leading dot is left to _named(), because tools pass over files that begin with one.
_COMMON = ("Dockerfile", "README.md", "deploy.py", "dockerd-entrypoint.py", "dot.dockerignore", "dot.gitignore")


def _named(name: str) -> str:
    return name.replace("dot.", ".", 1) if name.startswith("dot.") else name


def _template(room: str, name: str) -> str:
    return resources.files(_TEMPLATES).joinpath("templates", *room.split("/"), name).read_text(encoding="utf-8")


def _filled(text: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text
