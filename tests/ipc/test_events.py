# SPDX-License-Identifier: Apache-2.0
"""What workers tell the zygote, and what somebody else writes in their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import WireError
from sagemaker_inference_lite.ipc import events
from sagemaker_inference_lite.ipc.events import Description, End, Event, Imported, Loaded, LoadFailure, Report

EVENTS: list[Event] = [
    *End,
    Loaded(0),
    Loaded(123_456),
    Report(""),
    Description("", "", "", ""),
    Description("Ä (lib)", "rows of 2", "application/json", "[[0.0]]\n"),
    Report("é\n"),
    LoadFailure("0" * 32, ""),
    LoadFailure("0123456789abcdef" * 2, "ModelError: größe", True, "Traceback:\n  line\n"),
    Imported(()),
    Imported(("package.inside", "_b2", "größe")),
]


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_event_comes_as_it_was_sent(event: Event) -> None:
    """parse() undoes encode()."""
    assert events.parse(events.encode(event)) == event


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"L",
        b"Lx",
        b"L-1",
        b"L1 ",
        b"L" + b"9" * 13,
        b"I\xff",
        b"I..",
        b"Ia\n\nb",
        b"Ia b",
        b"I" + b"a" * 1001,
        b"E",
        b"E" + b"0" * 31 + b"\n\n",
        b"E" + b"0" * 32 + b"\nno further line",
        b"E" + b"X" * 32 + b"\n\n",
        b"Cx",
        b"x",
    ],
    ids=repr,
)
def test_what_is_no_event(packet: bytes) -> None:
    """A packet that no worker sends is a WireError."""
    with pytest.raises(WireError):
        events.parse(packet)


@given(st.binary(max_size=300))
def test_nothing_else_is_raised(packet: bytes) -> None:
    """Whatever comes is an event or a WireError; an event is no longer than what can be received."""
    try:
        event = events.parse(packet)
    except WireError:
        return
    assert len(events.encode(event)) <= events.LONGEST_EVENT


def test_too_many_modules() -> None:
    """The first modules are told, as far as they fit, and those of no name that can be imported are left out."""
    event = Imported(("not-a-name", *(f"package.module_{number}" for number in range(10_000))))
    packet = events.encode(event)
    assert events.LONGEST_EVENT - 30 < len(packet) <= events.LONGEST_EVENT
    told = events.parse(packet)
    assert isinstance(told, Imported)
    assert told.modules == event.modules[1 : len(told.modules) + 1]


def test_a_report_of_any_text() -> None:
    """A text that cannot be encoded, or is too long, is told as far as it can be."""
    packet = events.encode(Report("\ud800" * 1_000_000))
    assert len(packet) <= events.LONGEST_EVENT
    told = events.parse(packet)
    assert isinstance(told, Report)
    assert told.text.startswith("\\ud800\\ud800")


def test_a_failure_of_any_text() -> None:
    """A sentence of several lines or of any length is one short line, and of a traceback the end is kept."""
    packet = events.encode(LoadFailure("0" * 32, "first\nsecond" + "\ud800" * 1_000_000, True, "x" * 1_000_000 + "end"))
    assert len(packet) <= events.LONGEST_EVENT
    told = events.parse(packet)
    assert isinstance(told, LoadFailure)
    assert told.sentence.startswith("first second")
    assert told.sentence.endswith("...")
    assert len(told.sentence) <= events.LONGEST_SENTENCE
    assert told.trace.endswith("xend")
