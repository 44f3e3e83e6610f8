# SPDX-License-Identifier: Apache-2.0
"""Text of others' making, whatever is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.runtime.printable import encodable, named, on_lines, on_one_line, text_of

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_any_text_can_be_logged(text: str) -> None:
    """Whatever stands in a text, it can be encoded, and its lines are those that line feeds make."""
    shown = on_lines(text)
    assert len(shown.encode().split(b"\n")) == len(shown.splitlines() or [""]) + shown.endswith("\n") * bool(shown)
    assert len(on_one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, grün, 漢字, 🙂\tand\nlines", "plain, grün, 漢字, 🙂\tand\nlines"),
        ("\x1b[2J\r\x00\x7f", "\\x1b[2J\\r\\x00\\x7f"),
        ("\x85\u2028\u2029\x9b", "\\x85\\u2028\\u2029\\x9b"),
        ("\ud800\udcff", "\\ud800\\udcff"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    """Control characters, line ends that are none here, and halves of surrogate pairs are escapes."""
    assert on_lines(text) == shown
    assert on_one_line(text) == shown.replace("\n", "\\n")


@given(ANY_TEXT)
def test_encodable(text: str) -> None:
    """What has an encoding stays as it is."""
    shown = encodable(text)
    assert shown.encode().decode() == shown
    if not any("\ud800" <= each <= "\udfff" for each in text):
        assert shown == text


class MuteError(Exception):
    """Has no text."""

    def __init__(self, cause: BaseException) -> None:
        self._cause = cause

    def __str__(self) -> str:
        raise self._cause


@pytest.mark.parametrize("cause", [LookupError(), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_an_error_without_a_text(cause: BaseException) -> None:
    """An error whose text raises anything is told by its type."""
    assert named(MuteError(cause)) == f"MuteError: its text cannot be had: {type(cause).__name__}"


def test_values_that_are_no_text() -> None:
    """Bytes, numbers and what __str__ makes of nonsense have a text too."""

    class Odd:
        def __str__(self) -> str:
            return 7  # type: ignore[return-value]

    assert text_of(b"\xff\n") == "b'\\xff\\n'"
    assert text_of(Odd()) == "its text cannot be had: TypeError"
    assert named(ValueError("a\ud800\nb")) == "ValueError: a\\ud800\nb"
    assert named(MemoryError()) == "MemoryError"
