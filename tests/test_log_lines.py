# SPDX-License-Identifier: Apache-2.0
"""The lines of the log: each says which request it belongs to."""

from __future__ import annotations

import io
import logging
import logging.config
import threading
from collections.abc import Iterator

import pytest

from sagemaker_inference_lite import log_lines
from sagemaker_inference_lite.context import INFERENCE_ID, Context


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a logger of some author's writes in our format."""
    factory = logging.getLogRecordFactory()
    log_lines.install()
    log_lines.belong_to(None)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_lines.Formatter())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)
    log_lines.belong_to(None)
    log_lines.belong_to_model("")


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
    log_lines.belong_to(call("5f0c"))
    logger.warning("during %d", 1)
    log_lines.belong_to(call("a", "b"))
    logger.warning("together")
    log_lines.belong_to(None)
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
    log_lines.belong_to(call("5f0c"))
    thread = threading.Thread(target=logger.warning, args=("from a thread",))
    thread.start()
    thread.join()
    assert "[5f0c] - from a thread" in stream.getvalue()


def test_any_format_may_name_the_parts(stream: io.StringIO) -> None:
    """Model, request id and inference id are attributes of every record, and empty where there is none."""
    format_of_the_author = logging.Formatter("%(sagemaker_model)s/%(sagemaker_request_id)s/%(sagemaker_inference_id)s")
    logger.handlers[-1].setFormatter(format_of_the_author)
    logger.warning("")
    log_lines.belong_to_model("wine")
    log_lines.belong_to(Context("wine", "/m"))
    logger.warning("")
    log_lines.belong_to(call("5f0c", **{INFERENCE_ID: "mine"}))
    logger.warning("")
    assert stream.getvalue().splitlines() == ["//", "wine//", "wine/5f0c/mine"]


def test_extra_fields_of_an_author_do_not_collide(stream: io.StringIO) -> None:
    """The attributes' names are prefixed, so that an author's own request_id is no error."""
    log_lines.belong_to(call("5f0c"))
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
    log_lines.install()
    logger.handlers[-1].setFormatter(logging.Formatter("%(trace)s %(sagemaker_request_id)s"))
    log_lines.belong_to(call("5f0c"))
    logger.warning("")
    assert stream.getvalue() == "t-1 5f0c\n"


@pytest.mark.parametrize("made", ["before install()", "before a fork"])
def test_an_author_s_configuration_leaves_our_loggers_on(stream: io.StringIO, made: str) -> None:
    """What dictConfig() disables, which is all that is there unless it is told not to, is not this library's log."""
    name = f"{OURS}.{made.partition(' ')[2].partition('(')[0]}"
    ours = logging.getLogger(name)
    if made == "before install()":
        log_lines.install()
    else:
        log_lines.keep_ours_enabled()
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
    log_lines.install()
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "loggers": {OURS: {"level": "CRITICAL"}}}
    )
    assert not ours.isEnabledFor(logging.ERROR)
    assert ours.isEnabledFor(logging.CRITICAL)
