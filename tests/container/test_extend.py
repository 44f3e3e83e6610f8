# SPDX-License-Identifier: Apache-2.0
"""Images of frameworks, made here in place of others', and extended as container/extend/ says."""

from __future__ import annotations

import json
from pathlib import Path

from container_images import CONTAINER, Images
from docker.models.images import Image
from running_container import Serve

JSON = {"Content-Type": "application/json"}

# Trained in the image, whose scikit-learn is to read it again.
TRAIN = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
data, target = load_iris(return_X_y=True)
model = RandomForestClassifier(n_estimators=10, random_state=0).fit(data, target)
joblib.dump(model, sys.argv[1] + "/model.joblib")
print(model.predict(data[::50]).tolist())
"""

TOOLKITS_PROGRAM = """
def model_fn(model_dir):
    return 3

def predict_fn(data, model):
    return {"product": data["inputs"] * model}
"""


def framework_image(images: Images, directory: Path, wheels: str, *packages: str) -> str:
    """An image with packages that have nothing to do with this library; its id."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY wheels /wheels\n"
        "RUN python3 -m pip install --no-index --no-cache-dir --break-system-packages --find-links /wheels "
        f"{' '.join(packages)} && rm -r /wheels\n"
    )
    made = images.built(directory, wheels, BASE_IMAGE=images.base("bookworm")).id
    assert made is not None
    return made


def extended(images: Images, name: str, base: str, **arguments: str) -> Image:
    """container/extend/NAME.Dockerfile on a base."""
    return images.built(CONTAINER, "bookworm", f"extend/{name}.Dockerfile", BASE_IMAGE=base, **arguments)


def test_scikit_learn(images: Images, serve: Serve, base_dir: Path, tmp_path: Path) -> None:
    """A model trained with the image's scikit-learn is served without any code, from a read-only directory."""
    base = framework_image(images, tmp_path / "framework", "SCIKIT_LEARN", "scikit-learn")
    for path in (base_dir / "model").iterdir():
        if path.is_file():
            path.unlink()
    (base_dir / "model" / "code" / "inference.py").unlink()
    mount = {str(base_dir / "model"): {"bind": "/out", "mode": "rw"}}
    expected = images.client.containers.run(
        base, ["python3", "-c", TRAIN, "/out"], remove=True, network_mode="none", volumes=mount
    )
    container = serve(of=extended(images, "scikit-learn", base)).ready()
    data = [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]
    answer = container.invoke(json.dumps(data), headers=JSON)
    assert answer.status_code == 200, container.output()
    assert answer.json() == json.loads(expected)
    assert container.stop() == 0


def test_hugging_face(images: Images, serve: Serve, base_dir: Path, tmp_path: Path) -> None:
    """The toolkit's handler service, as its package has it, runs a model's own functions."""
    base = framework_image(
        images,
        tmp_path / "framework",
        "HUGGING_FACE",
        "sagemaker-huggingface-inference-toolkit",
        "transformers",
        "'setuptools<81'",
        "torch",
    )
    (base_dir / "model" / "code" / "inference.py").write_text(TOOLKITS_PROGRAM)
    image = extended(images, "hugging-face", base, EXTRAS="jre")
    container = serve(of=image, environ={"HF_HUB_OFFLINE": "1"}).ready()
    answer = container.invoke(json.dumps({"inputs": 14}), headers={**JSON, "Accept": "application/json"})
    assert answer.status_code == 200, container.output()
    assert answer.json() == {"product": 42}
    assert container.stop() == 0
