# SPDX-License-Identifier: Apache-2.0
"""JSON as a person reads it: what fits on a line stands on one, and numbers stay as they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_INDENT = 2


class _Written(str):
    """A number in the digits of its text."""


def pretty(text: str, width: int = 100) -> str:
    """The text with line ends and indents; the text itself where it is no JSON.

    Args:
        width: Characters of a line. What is nested is broken into lines only where it does not fit.
    """
    try:
        value = json.loads(text, parse_float=_Written, parse_int=_Written)
        return "\n".join(_lines(value, width, ""))
    except (ValueError, RecursionError):
        return text


def _lines(value: Any, width: int, indent: str, lead: str = "") -> Iterator[str]:
    line = indent + lead + _compact(value)
    if len(line) <= width or not isinstance(value, (dict, list)) or not value:
        yield line
        return
    inner = indent + " " * _INDENT
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield indent + lead + opening
    members = _members(value)
    for number, (name, member) in enumerate(members, 1):
        *before, last = _lines(member, width - 1, inner, name)
        yield from before
        yield last if number == len(members) else last + ","
    yield indent + closing


def _members(value: dict[str, Any] | list[Any]) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{_text(name)}: ", each) for name, each in value.items()]
    return [("", each) for each in value]


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {_compact(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_compact, value)) + "]"
    return str(value) if isinstance(value, _Written) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
