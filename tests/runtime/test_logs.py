# SPDX-License-Identifier: Apache-2.0
"""The lines of the log: each says which request it belongs to."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sagemaker_inference_lite.context import INFERENCE_ID, Context
from sagemaker_inference_lite.runtime import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a logger of some author's writes in our format."""
    factory = logging.getLogRecordFactory()
    logs.install()
    logs.belong_to(None)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    logs.belong_to(None)
    logs.belong_to_model("")


OURS = "sagemaker_inference_lite.made_by_a_test"
logger = logging.getLogger("some.author")


def call(*ids: str, **headers: str) -> Context:
    """The context of requests with these ids."""
    context = Context("wine", "/m")
    context.begin((each, headers, None) for each in ids)
    return context


def test_a_line_names_its_request(stream: io.StringIO) -> None:
    """While a request is handled, whoever logs logs its id; before and after there is none."""
    logger.warning("before")
    logs.belong_to(call("5f0c"))
    logger.warning("during %d", 1)
    logs.belong_to(call("a", "b"))
    logger.warning("together")
    logs.belong_to(None)
    logger.warning("after")
    lines = [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "[WARNING] some.author - before",
        "[WARNING] some.author [5f0c] - during 1",
        "[WARNING] some.author [a, b] - together",
        "[WARNING] some.author - after",
    ]


def test_threads_of_a_handler_belong_to_its_request(stream: io.StringIO) -> None:
    """A thread that a handler starts logs the request as well."""
    logs.belong_to(call("5f0c"))
    thread = threading.Thread(target=logger.warning, args=("from a thread",))
    thread.start()
    thread.join()
    assert "[5f0c] - from a thread" in stream.getvalue()


def test_any_format_may_name_the_parts(stream: io.StringIO) -> None:
    """Model, request id and inference id are attributes of every record, and empty where there is none."""
    format_of_the_author = logging.Formatter("%(sagemaker_model)s/%(sagemaker_request_id)s/%(sagemaker_inference_id)s")
    logger.handlers[-1].setFormatter(format_of_the_author)
    logger.warning("")
    logs.belong_to_model("wine")
    logs.belong_to(Context("wine", "/m"))
    logger.warning("")
    logs.belong_to(call("5f0c", **{INFERENCE_ID: "mine"}))
    logger.warning("")
    assert stream.getvalue().splitlines() == ["//", "wine//", "wine/5f0c/mine"]


def test_extra_fields_of_an_author_do_not_collide(stream: io.StringIO) -> None:
    """The attributes' names are prefixed, so that an author's own request_id is no error."""
    logs.belong_to(call("5f0c"))
    logger.warning("mine", extra={"request_id": "x", "model": "y"})
    assert "[5f0c] - mine" in stream.getvalue()


def test_a_factory_that_is_there_already_is_kept(stream: io.StringIO) -> None:
    """What another library adds to records stays."""
    ours = logging.getLogRecordFactory()

    def factory(*arguments: object, **keywords: object) -> logging.LogRecord:
        record: logging.LogRecord = ours(*arguments, **keywords)
        record.trace = "t-1"
        return record

    logging.setLogRecordFactory(factory)
    logs.install()
    logger.handlers[-1].setFormatter(logging.Formatter("%(trace)s %(sagemaker_request_id)s"))
    logs.belong_to(call("5f0c"))
    logger.warning("")
    assert stream.getvalue() == "t-1 5f0c\n"


@pytest.mark.parametrize("made", ["before install()", "before a fork"])
def test_an_author_s_configuration_leaves_our_loggers_on(stream: io.StringIO, made: str) -> None:
    """What dictConfig() disables, which is all that is there unless it is told not to, is not this library's log."""
    name = f"{OURS}.{made.partition(' ')[2].partition('(')[0]}"
    ours = logging.getLogger(name)
    if made == "before install()":
        logs.install()
    else:
        logs.keep_ours_enabled()
    before = {each: logging.getLogger(each).disabled for each in logging.root.manager.loggerDict}
    ours.addHandler(logger.handlers[-1])
    try:
        logging.config.dictConfig({"version": 1})
        assert logger.disabled
        ours.warning("a request failed")
    finally:
        ours.handlers.clear()
        for each, state in before.items():
            logging.getLogger(each).disabled = state
    assert "a request failed" in stream.getvalue()


def test_an_author_may_choose_our_level(stream: io.StringIO) -> None:
    """A logger that cannot be disabled still has a level."""
    ours = logging.getLogger(OURS)
    logs.install()
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "loggers": {OURS: {"level": "CRITICAL"}}}
    )
    assert not ours.isEnabledFor(logging.ERROR)
    assert ours.isEnabledFor(logging.CRITICAL)


# -- the handler ------------------------------------------------------------------------------------------------------


class MuteError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise LookupError


class Piped(logging.Logger):
    """A logger that writes to a pipe, as this library's processes do, and that nobody else listens to."""

    def __init__(self) -> None:
        super().__init__("some.author")
        self._source, self._sink = os.pipe()
        self.handler = logs.LineHandler(self._sink)
        self.addHandler(self.handler)

    def written(self) -> str:
        """What has been written."""
        return os.read(self._source, 1 << 20).decode()

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._source)
        os.close(self._sink)


@pytest.fixture
def piped() -> Iterator[Piped]:
    """A logger that writes to a pipe."""
    piped = Piped()
    yield piped
    piped.close()


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("half \ud800 and \x1b[2J", (), "half \\ud800 and \\x1b[2J"),
        ("bytes %s", (b"\xff\n",), "bytes b'\\xff\\n'"),
        ("two\nlines\twith\ttabs", (), "two\nlines\twith\ttabs"),
        ("not\x85three\u2028lines\r", (), "not\\x85three\\u2028lines\\r"),
        ("%d wheels", ("no",), "%d wheels (this record cannot be formatted: TypeError: %d format: a "),
        ("too %s", ("many", "arguments"), "too %s (this record cannot be formatted: TypeError: not all arguments "),
        ("it says: %s", (MuteError(),), "it says: %s (this record cannot be formatted: LookupError)"),
        (MuteError(), (), "its text cannot be had: LookupError (this record cannot be formatted: LookupError)"),
    ],
)
def test_a_record_never_fails(
    piped: Piped,
    capsys: pytest.CaptureFixture[str],
    message: object,
    arguments: tuple[object, ...],
    expected: str,
) -> None:
    """Whatever an author logs is a line, and nothing is said of logging errors."""
    piped.warning(message, *arguments)
    line = piped.written()
    assert f"[WARNING] some.author - {expected}" in line
    assert line.endswith("\n")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [MuteError(), ValueError("half \ud800"), ValueError(b"\xff")])
def test_a_traceback_never_fails(piped: Piped, error: Exception) -> None:
    """The traceback of an error is in the log, though the error has no text, or one that cannot be encoded."""
    try:
        raise error
    except Exception:
        piped.exception("it failed")
    text = piped.written()
    assert "some.author - it failed\nTraceback (most recent call last):\n" in text
    assert type(error).__name__ in text.splitlines()[-1]


def test_a_formatter_that_fails(piped: Piped) -> None:
    """An author's own formatter that raises costs the record its form, and the error of the record is still told."""

    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise KeyError("colour")

    piped.handler.setFormatter(Broken())
    piped.error("it failed", exc_info=ValueError("for that"))
    assert piped.written().endswith(
        "[ERROR] some.author - it failed (this record cannot be formatted: KeyError: 'colour'): ValueError: for that\n"
    )


def test_an_enormous_record(piped: Piped) -> None:
    """The middle of what is too long is left out, and it is said how much that was."""
    thread = threading.Thread(target=piped.warning, args=("begin %s end", "x" * 5_000_000))
    thread.start()
    text = ""
    while not text.endswith("end\n"):
        text += piped.written()
    thread.join()
    assert 262_144 < len(text) < 263_000
    first, missing, last = text.splitlines()
    assert " - begin x" in first
    assert last.endswith("x end")
    assert 4_700_000 < int(missing.split()[1]) < 4_800_000


def test_where_nothing_can_be_written(piped: Piped, capsys: pytest.CaptureFixture[str]) -> None:
    """A descriptor that is closed, or whose reader is gone, costs the lines and nothing else."""
    piped.removeHandler(piped.handler)
    piped.addHandler(logs.LineHandler(1 << 20))
    piped.warning("lost")
    assert capsys.readouterr() == ("", "")


def test_a_log_of_its_own() -> None:
    """It goes where it went in the beginning, whatever becomes of sys.stdout and of descriptor 1, until it is moved."""
    program = """
import logging, os
from sagemaker_inference_lite.runtime import logs
logging.basicConfig(handlers=[logs.own_handler(1)])
os.close(1)
assert os.open(os.devnull, os.O_WRONLY) == 1
logging.warning("before")
logs.continue_at(2)
logging.warning("after")
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.stdout.endswith("[WARNING] root - before\n")
    assert done.stderr.endswith("[WARNING] root - after\n")


def test_an_author_s_log_that_raises() -> None:
    """Where an author's handler, or filter, raises, a record of this library's goes to the log of its own."""
    program = """
import logging, os, sys
from sagemaker_inference_lite.runtime import logs

class Refuses:
    def write(self, text):
        raise RuntimeError

def refuse(record):
    raise RuntimeError

logs.own_handler(1)
ours = logging.getLogger("sagemaker_inference_lite.some")
logs.install()
sys.stderr = Refuses()
logging.basicConfig(stream=sys.stderr)
ours.error("one")
logging.root.handlers[0].addFilter(refuse)
ours.error("two")
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert [line.rpartition(" - ")[2] for line in done.stdout.splitlines()] == ["one", "two"], done.stderr


def test_no_log_of_its_own_to_move() -> None:
    """Where there is no such handler nothing is moved."""
    logs.continue_at(2)
