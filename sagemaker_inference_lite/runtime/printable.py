# SPDX-License-Identifier: Apache-2.0
"""Text that others have made, in a form that can be logged, sent and shown, whatever is in it."""

from __future__ import annotations

import re

# All that moves a terminal's cursor or begins a line where somebody looks (Unicode Standard Annex 14 has U+0085, U+2028
# and U+2029 do it), but for line feed and tab; and halves of surrogate pairs, which have no encoding.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def on_lines(text: str) -> str:
    """The text with control characters, and what cannot be encoded, as escapes; line feeds and tabs stay."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def on_one_line(text: str) -> str:
    """The same, with escapes for line feeds too: what a client wrote must not look like further lines of a log."""
    return on_lines(text).replace("\n", "\\n")


def encodable(text: str) -> str:
    """The text with escapes for what has no encoding, and all else as it is."""
    return text.encode(errors="backslashreplace").decode()


def text_of(value: object) -> str:
    """What str() makes of a value, an error above all, as on_lines() has it; says so where that raises."""
    try:
        text = str(value)
    except BaseException as cause:  # it is written by whoever wrote the handler, and may raise anything
        text = f"its text cannot be had: {type(cause).__name__}"
    return on_lines(text)


def named(error: BaseException) -> str:
    """An error's type and text, as text_of() has it; its type alone where it has no text."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
