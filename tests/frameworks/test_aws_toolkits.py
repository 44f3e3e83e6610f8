# SPDX-License-Identifier: Apache-2.0
"""Handlers that were written for AWS's toolkits, unmodified, on the real server."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import TYPES, ask
from running_server import Server, serving

from sagemaker_inference_lite.content_types import CSV, JSON

SAGEMAKER_INFERENCE = "sagemaker_inference.default_handler_service"
HUGGING_FACE = "sagemaker_huggingface_inference_toolkit.handler_service"

# All that a program may define but transform_fn. The toolkit makes text of the bodies of two types.
PROGRAM = """
import numpy
from sagemaker_inference import decoder, encoder
from beside import FACTOR

def model_fn(model_dir):
    return open(f"{model_dir}/offset").read()

def input_fn(data, content_type):
    assert isinstance(data, str) == (content_type in ("application/json", "text/csv"))
    return decoder.decode(data, content_type)

def predict_fn(data, model):
    if (data < 0).any():
        raise ValueError("lengths are not negative")
    return FACTOR * data + float(model)

def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Rows", str(len(prediction)))
    return encoder.encode(prediction, accept), accept
"""

# Takes the place of the other three, and gets no context.
TRANSFORM = """
def model_fn(model_dir, context):
    return context.system_properties["model_dir"]

def transform_fn(model, data, content_type, accept):
    return f"{data} of {content_type} for {accept} by {model.split('/')[-2]}", "text/plain"
"""

# A toolkit of one's own, as sagemaker-inference is meant to be extended: a module with defaults for one framework ...
DEFAULTS = """
import os
import joblib
from sagemaker_inference import default_inference_handler

class Defaults(default_inference_handler.DefaultInferenceHandler):
    def default_model_fn(self, model_dir, context=None):
        return joblib.load(os.path.join(model_dir, "classifier.joblib"))

    def default_predict_fn(self, data, model, context=None):
        return model.predict_proba(data)
"""

# ... and the handler service that names it.
SERVICE = """
from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.transformer import Transformer
from own_defaults import Defaults

class HandlerService(DefaultHandlerService):
    def __init__(self):
        super().__init__(transformer=Transformer(default_inference_handler=Defaults()))
"""


def write_model(directory: Path, program: str, offset: float = 0, name: str = "inference.py") -> None:
    """A model's directory with its program, and a module beside it."""
    code = directory / "code"
    code.mkdir(parents=True)
    (directory / "offset").write_text(str(offset))
    (code / name).write_text(textwrap.dedent(program))
    (code / "beside.py").write_text("FACTOR = 2\n")


# -- sagemaker-inference, one model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single(_frameworks: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A single-model server on the toolkit's own handler service, whose program has another name than the default."""
    base_dir = tmp_path_factory.mktemp("base")
    write_model(base_dir / "model", PROGRAM, 0.5, "serve.py")
    with serving(base_dir, SAGEMAKER_INFERENCE, SAGEMAKER_PROGRAM="serve.py") as server:
        yield server


@pytest.mark.parametrize("content_type", TYPES)
def test_the_four_functions(single: Server, content_type: str) -> None:
    """The program's functions are called by the toolkit, and its decoders and encoders serve each type."""
    rows = np.array([[1.0, 2.0], [3.0, 4.5]])
    assert np.array_equal(ask(single, rows, content_type), 2 * rows + 0.5)


def test_headers_that_a_program_sets(single: Server) -> None:
    """A program that takes the context sets headers of the answer on it."""
    answer = single.invoke(b"[[1],[2],[3]]", headers={"Content-Type": JSON})
    assert answer.headers["X-Rows"] == "3"


def test_an_unsupported_type_is_answered_as_there(single: Server) -> None:
    """For a type that it cannot decode the toolkit answers 500 with its own text, and that is what the client gets."""
    answer = single.invoke(b"x", headers={"Content-Type": "image/png"})
    assert answer.status_code == 500
    assert answer.text.startswith("Content type image/png is not supported by this framework.")


def test_a_failing_predict_is_answered_as_there(single: Server) -> None:
    """The toolkit sends the error's text and its traceback, with status 500; the next request is answered."""
    answer = single.invoke(b"[[-1]]", headers={"Content-Type": JSON})
    assert answer.status_code == 500
    assert answer.text.startswith("lengths are not negative\nTraceback")
    assert ask(single, [[1]]).tolist() == [[2.5]]


# -- sagemaker-inference, several models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def multi(_frameworks: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A multi-model server on the toolkit's own handler service."""
    with serving(tmp_path_factory.mktemp("base"), SAGEMAKER_INFERENCE, SAGEMAKER_MULTI_MODEL="true") as server:
        yield server


def load(server: Server, name: str, program: str, offset: float = 0, **more: Any) -> Path:
    """Loads a model with that program, and says in which directory it is."""
    directory = server.base_dir / "models" / name / "model"
    write_model(directory, program, offset)
    assert server.load(name, **more).status_code == 200, server.output()
    return directory


def test_each_model_has_its_program(multi: Server) -> None:
    """Programs of equal names, with modules of equal names beside them, serve their own model."""
    load(multi, "one", PROGRAM, 1)
    load(multi, "two", PROGRAM.replace("FACTOR *", "10 * FACTOR *"), 2)
    for content_type in TYPES:
        assert ask(multi, [[1.0], [2.0]], content_type, "one").tolist() == [[3.0], [5.0]]
        assert ask(multi, [[1.0], [2.0]], content_type, "two").tolist() == [[22.0], [42.0]]


def test_transform_fn(multi: Server) -> None:
    """A program's transform_fn takes the place of the other three."""
    load(multi, "transforms", TRANSFORM)
    answer = multi.invoke(b"text", model="transforms", headers={"Content-Type": CSV, "Accept": JSON})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain")
    assert answer.text == f"text of {CSV} for {JSON} by transforms"


@pytest.mark.parametrize("content_type", TYPES)
def test_a_toolkit_built_on_it(multi: Server, iris: Any, classifier: Any, content_type: str) -> None:
    """A handler service made of the toolkit's Transformer and defaults of one's own needs no change."""
    import joblib

    (multi.base_dir / "own_defaults.py").write_text(DEFAULTS)
    (multi.base_dir / "own_service.py").write_text(SERVICE)
    name = f"built{TYPES.index(content_type)}"
    directory = multi.base_dir / "models" / name / "model"
    directory.mkdir(parents=True)
    joblib.dump(classifier, directory / "classifier.joblib")
    answer = multi.load(name, handler=str(multi.base_dir / "own_service.py"))
    assert answer.status_code == 200, multi.output()
    rows = iris.data[::10]
    assert np.allclose(ask(multi, rows, content_type, name), classifier.predict_proba(rows))


def test_a_model_fn_that_raises_fails_the_load(multi: Server) -> None:
    """A model whose model_fn raises is not loaded."""
    write_model(
        multi.base_dir / "models" / "broken" / "model", "def model_fn(model_dir): raise ValueError('no weights')"
    )
    assert multi.load("broken").status_code == 500
    assert "no weights" in multi.output()
    assert "broken" not in multi.listed()


# -- The Hugging Face toolkit ------------------------------------------------------------------------------------------


def write_transformer(directory: Path) -> None:
    """A text classifier of one layer with random weights, and the tokenizer of its five words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "long", "film"]
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=16, num_labels=3, initializer_range=1.0, **sizes)
    BertForSequenceClassification(config).save_pretrained(directory)


@pytest.fixture(scope="module")
def hugging_face(_frameworks: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A single-model server on the Hugging Face toolkit's handler service."""
    pytest.importorskip(
        HUGGING_FACE.partition(".")[0], reason="the Hugging Face toolkit has no release for this Python"
    )
    base_dir = tmp_path_factory.mktemp("base")
    (base_dir / "model").mkdir()
    write_transformer(base_dir / "model")
    with serving(base_dir, HUGGING_FACE, SAGEMAKER_MODEL_SERVER_WORKERS="1") as server:
        yield server


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_transformer(hugging_face: Server) -> None:
    """The toolkit's own handler service answers JSON and CSV with what the pipeline itself says."""
    from transformers import pipeline

    texts = ["a good film", "a bad film", "long long film"]
    expected = pipeline("text-classification", str(hugging_face.base_dir / "model"))(texts)
    answer = hugging_face.invoke(
        b'{"inputs": ["a good film", "a bad film", "long long film"]}', headers={"Content-Type": JSON}
    )
    assert answer.status_code == 200, answer.text
    assert [each["label"] for each in answer.json()] == [each["label"] for each in expected]
    assert np.allclose([each["score"] for each in answer.json()], [each["score"] for each in expected])
    headers = {"Content-Type": CSV, "Accept": CSV}
    table = hugging_face.invoke("\n".join(["inputs", *texts]).encode(), headers=headers)
    assert [row.split(",")[0] for row in table.text.split()] == ["label", *(each["label"] for each in expected)]


def test_a_mistake_of_the_client(hugging_face: Server) -> None:
    """The toolkit raises MMS's PredictionException: its status and its text are the answer."""
    answer = hugging_face.invoke(b"a,b\n1,2\n", headers={"Content-Type": CSV})
    assert answer.status_code == 400
    assert "correct CSV with Header columns" in answer.json()["error"]["message"]
