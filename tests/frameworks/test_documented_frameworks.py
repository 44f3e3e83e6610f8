# SPDX-License-Identifier: Apache-2.0
"""The documentation's subclasses for frameworks, served as they stand there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import TYPES, ask
from documents import handlers
from running_server import Server


def serve_example(server: Server, model_dir: Path, name: str) -> str:
    """Loads the model with a documented example for its handler; the model's name."""
    source = handlers()[name]
    assert len(source.strip().splitlines()) <= 15
    path = model_dir.parent / name
    path.write_text(source)
    answer = server.load(model_dir.parent.name, handler=str(path))
    assert answer.status_code == 200, server.output()
    return model_dir.parent.name


@pytest.mark.parametrize("content_type", TYPES)
def test_scikit_learn(server: Server, model_dir: Path, content_type: str, iris: Any, classifier: Any) -> None:
    """The example for scikit-learn answers what the model itself says."""
    import joblib

    joblib.dump(classifier, model_dir / "classifier.joblib")
    model = serve_example(server, model_dir, "scikit_learn.py")
    rows = iris.data[::10]
    assert np.allclose(ask(server, rows, content_type, model), classifier.predict_proba(rows))


@pytest.mark.parametrize("content_type", TYPES)
def test_pytorch(server: Server, model_dir: Path, content_type: str, iris: Any) -> None:
    """The example for PyTorch answers what the network itself says."""
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    torch.save(network.state_dict(), model_dir / "weights.pt")
    model = serve_example(server, model_dir, "pytorch.py")
    rows = iris.data[::10]
    expected = torch.softmax(network(torch.tensor(rows, dtype=torch.float32)), dim=1).detach().numpy()
    assert np.allclose(ask(server, rows, content_type, model), expected, atol=1e-6)


@pytest.mark.parametrize("content_type", TYPES)
def test_onnx_runtime(server: Server, model_dir: Path, content_type: str, iris: Any, classifier: Any) -> None:
    """The example for ONNX Runtime answers what scikit-learn says of the model that was converted."""
    from skl2onnx import to_onnx

    rows = iris.data[::10].astype(np.float32)
    onnx = to_onnx(classifier, rows[:1], options={"zipmap": False})
    (model_dir / "classifier.onnx").write_bytes(onnx.SerializeToString())
    model = serve_example(server, model_dir, "onnx_runtime.py")
    assert np.allclose(ask(server, rows, content_type, model), classifier.predict_proba(rows), atol=1e-5)
