# SPDX-License-Identifier: Apache-2.0
"""Model files without any code, and forked workers that compute with several threads, on the real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import TYPES, ask
from running_server import Server

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def load(server: Server, model_dir: Path) -> str:
    """Loads the model with the default handler service; its name."""
    answer = server.load(model_dir.parent.name)
    assert answer.status_code == 200, server.output()
    return model_dir.parent.name


def save_network(path: Path, seed: int) -> Any:
    """Writes a small network as TorchScript, and returns it."""
    import torch

    torch.manual_seed(seed)
    # Small enough for one thread: several of a process's first tanh() may get it wrong (pytorch/pytorch#188792).
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    torch.jit.save(torch.jit.script(network), path)
    return lambda rows: network(torch.tensor(rows, dtype=torch.float32)).detach().numpy()


@pytest.mark.parametrize("content_type", TYPES)
def test_model_joblib(server: Server, model_dir: Path, content_type: str, iris: Any, classifier: Any) -> None:
    """A model.joblib is asked by its method predict."""
    import joblib

    joblib.dump(classifier, model_dir / "model.joblib")
    answer = ask(server, iris.data, content_type, load(server, model_dir))
    assert np.array_equal(answer.ravel(), classifier.predict(iris.data))


@pytest.mark.parametrize("content_type", TYPES)
def test_model_pt(server: Server, model_dir: Path, content_type: str, iris: Any) -> None:
    """A model.pt is a TorchScript module that is called."""
    network = save_network(model_dir / "model.pt", seed=1)
    answer = ask(server, iris.data, content_type, load(server, model_dir))
    assert np.allclose(answer, network(iris.data), atol=1e-5)


@pytest.mark.parametrize("content_type", TYPES)
def test_model_onnx(server: Server, model_dir: Path, content_type: str, iris: Any) -> None:
    """A model.onnx with one output answers with its array."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    rows = iris.data.astype(np.float32)
    regressor = LinearRegression().fit(rows[:, :3], rows[:, 3])
    (model_dir / "model.onnx").write_bytes(to_onnx(regressor, rows[:1, :3]).SerializeToString())
    answer = ask(server, rows[:, :3], content_type, load(server, model_dir))
    assert np.allclose(answer.ravel(), regressor.predict(rows[:, :3]), atol=1e-4)


def test_whole_numbers_are_numbers_too(server: Server, model_dir: Path) -> None:
    """A client that sends [[5, 3]] in place of [[5.0, 3.5]] is answered."""
    network = save_network(model_dir / "model.pt", seed=1)
    model = load(server, model_dir)
    answer = server.invoke(b"[[5, 3, 1, 0]]", model=model, headers={"Content-Type": "application/json"})
    assert np.allclose(answer.json(), network([[5, 3, 1, 0]]), atol=1e-5)


def test_two_models_of_pytorch(server: Server, model_dir: Path, iris: Any) -> None:
    """Two PyTorch models of one server answer each for itself, asked in turns."""
    other_dir = model_dir.parents[1] / "other" / "model"
    other_dir.mkdir(parents=True)
    networks = {
        load_as: save_network(place / "model.pt", seed)
        for seed, (load_as, place) in enumerate([(model_dir.parent.name, model_dir), ("other", other_dir)])
    }
    for place in (model_dir, other_dir):
        load(server, place)
    for start in range(0, 30, 3):
        for name, network in networks.items():
            rows = iris.data[start : start + 3]
            assert np.allclose(ask(server, rows, model=name), network(rows), atol=1e-5)


THREADED = """
import torch

def model_fn(model_dir):
    return torch.ones(700, 700)

def predict_fn(data, model):
    return [torch.get_num_threads(), *((model * number @ model)[0, 0].item() for number in data)]
"""


def test_a_forked_torch_computes_with_threads(server: Server, model_dir: Path) -> None:
    """Torch that the zygote has imported computes in workers with all the threads that they may have, and ends."""
    (zygote,) = server.processes()["zygote"]
    assert any("libtorch" in each.path for each in zygote.memory_maps())
    (model_dir / "code").mkdir()
    (model_dir / "code" / "inference.py").write_text(THREADED)
    model = load(server, model_dir)
    for _ in range(3):
        assert ask(server, list(range(1, 9)), model=model).tolist() == [2, *(700 * each for each in range(1, 9))]


def test_a_model_that_cannot_be_read_is_not_loaded(server: Server, model_dir: Path) -> None:
    """A file of torch.save in place of TorchScript fails the load, and the log says what was expected."""
    import torch

    torch.save({"weight": torch.ones(2)}, model_dir / "model.pt")
    assert server.load(model_dir.parent.name).status_code == 500
    assert f"{model_dir / 'model.pt'} is not TorchScript" in server.output()
    assert model_dir.parent.name not in server.listed()
