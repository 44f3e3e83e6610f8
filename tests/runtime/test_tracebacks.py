# SPDX-License-Identifier: Apache-2.0
"""Tracebacks begin where the author's code does."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.context import Context
from sagemaker_inference_lite.default_handler_service import DefaultHandlerService
from sagemaker_inference_lite.errors import ClientError, ModelError
from sagemaker_inference_lite.handlers import inference_script
from sagemaker_inference_lite.runtime import tracebacks


def raised(call: Any, *arguments: Any) -> BaseException:
    """What a call raises, without the frames of this file that led to it, which are nobody's in a worker."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 # whatever it is
        call(*arguments)
    error = caught.value
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def program(model_dir: Path, text: str) -> BaseException:
    """What the load of a program with that text raises."""
    (model_dir / "code").mkdir()
    (model_dir / "code" / "broken_program.py").write_text(text)
    return raised(inference_script.load, str(model_dir), "broken_program.py")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a load does to sys.path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_syntax_error_has_no_frames_of_ours(tmp_path: Path) -> None:
    """The cause alone is shown, with the file, the line and its text."""
    error = program(tmp_path, "def model_fn(:\n    pass\n")
    assert isinstance(error, ModelError)
    text = tracebacks.text_of(error)
    assert "def model_fn(:" in text
    assert text.count("SyntaxError") == 1
    assert "sagemaker_inference_lite/" not in text
    assert "importlib" not in text
    assert tracebacks.place_of(error) == f"{tmp_path}/code/broken_program.py, line 1"


def test_an_import_that_raises_begins_in_the_program(tmp_path: Path) -> None:
    """The first frame is the program's, and what it calls follows."""
    error = program(tmp_path, "def helper():\n    import decimal\n    decimal.Decimal('x')\n\nhelper()\n")
    text = tracebacks.text_of(error)
    assert text.splitlines()[1].strip() == f'File "{tmp_path}/code/broken_program.py", line 5, in <module>'
    assert "InvalidOperation" in text.splitlines()[-1]
    assert tracebacks.place_of(error) == f"{tmp_path}/code/broken_program.py, line 3"


def test_our_frames_between_others_stay() -> None:
    """Frames that lead to the author's code are left out; those behind it, where it calls this library, are not."""

    class Handler(DefaultHandlerService):
        def predict(self, data: Any, model: Any) -> Any:
            return codecs.decode(b"{", "application/json")

    handler = Handler()
    error = handler._attempt(lambda value: handler.predict(value, None), Context("m", "/nowhere"), None)
    files = [frame.filename for frame in traceback.extract_tb((tracebacks.exc_info(error) or (0, 0, None))[2])]
    assert files[0] == __file__
    assert isinstance(error, ClientError)


def test_an_error_of_ours_alone_is_its_sentence(tmp_path: Path) -> None:
    """Where this library refuses something by itself, its frames say nothing to anybody."""
    from sagemaker_inference_lite.handlers.frameworks import kinds

    error = raised(kinds.only_file, tmp_path, "")
    assert tracebacks.exc_info(error) is None
    assert tracebacks.text_of(error) == ""


def test_an_error_of_another_kind_in_our_frames_keeps_them() -> None:
    """A mistake of this library's own is shown with its frames: nothing else says where it is."""
    error = raised(codecs.decode, None, "application/json")
    assert "sagemaker_inference_lite" in tracebacks.text_of(error)


def test_an_error_without_a_traceback() -> None:
    """An error that was never raised has none, and its text is had all the same."""
    assert tracebacks.text_of(ValueError("x")) == "ValueError: x\n"
    assert tracebacks.place_of(ValueError("x")) == ""
