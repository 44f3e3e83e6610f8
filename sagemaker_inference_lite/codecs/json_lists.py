# SPDX-License-Identifier: Apache-2.0
"""Lists of JSON to arrays: which of them become one, and two ways to get there fast.

That a text holds nothing but numbers and lists is seen from its bytes, without a look at each element. Such a text is
read by simdjson where that is installed (the extra `fast`), without a Python object for each number. The result is
the same to the last bit; whatever simdjson refuses is read again by those who can say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any

import numpy as np

from sagemaker_inference_lite.codecs.arrays import Array, array_of_text

# Below this simdjson gains less than it costs; small requests never pay for its import.
WORTHWHILE_BYTES = 4096
# A parser keeps up to fifteen times the size of the largest text that it has read. One that is kept spares texts of
# common sizes half of their time, which the kernel takes to hand out that memory; larger ones get one of their own.
_KEPT_PARSER_BYTES = 4 * 1024 * 1024

# All that is in JSON beside lists and numbers needs one of these bytes.
_OTHER_THAN_NUMBERS = b'"tfn{'
_WHITESPACE = b" \t\r\n"


def holds_only_numbers(text: bytes) -> bool:
    """Whether a text, if it is JSON at all, holds nothing but numbers and lists."""
    return not any(mark in text for mark in _OTHER_THAN_NUMBERS)


def is_integral(text: bytes) -> bool:
    """Whether all numbers of a text that holds nothing else are integers."""
    return not any(mark in text for mark in b".eE")


def array_of_numbers(value: list[Any], *, integral: bool) -> Array | None:
    """An array of a list that holds nothing but numbers and lists; None where it is ragged, or too deep for numpy.

    It is int64 where integral is true and int64 holds all its numbers, and float64 otherwise.
    """
    try:
        return np.array(value, dtype=np.int64 if integral else np.float64)
    except OverflowError:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def array_or_list(value: list[Any]) -> Array | list[Any]:
    """An array of a list that is not ragged and holds nothing but numbers, or nothing but text; else the list.

    Text stays a list where its array would exceed MAX_TEXT_ARRAY_BYTES, or would lose a NUL at a text's end.
    """
    shape, leaves = _shape_and_leaves(value)
    kinds = set(map(type, leaves))
    array: Array | None = None
    if kinds == {str} and not any(map(str.endswith, leaves, repeat("\0"))):
        array = array_of_text(leaves)
    elif kinds <= {int, float}:
        array = array_of_numbers(leaves, integral=kinds <= {int})
    try:
        return value if array is None else array.reshape(shape)
    except ValueError:
        return value  # more dimensions than numpy has


def _shape_and_leaves(value: list[Any]) -> tuple[list[int], list[Any]]:
    """The shape, and what is in the innermost lists; where the list is ragged there are lists among the leaves."""
    shape, level = [len(value)], value
    while level and type(level[0]) is list:
        width = len(level[0])
        if any(type(each) is not list or len(each) != width for each in level):
            break
        shape.append(width)
        level = list(chain.from_iterable(level))
    return shape, level


def read_numbers(text: bytes, dtype: type[np.int64] | type[np.float64]) -> Array | None:
    """The array of a list of numbers, read by simdjson.

    Args:
        text: holds_only_numbers() is true of it.
        dtype: np.int64 takes no number that is_integral() is not true of.

    Returns:
        An array of that dtype, with its own memory. None where simdjson is not installed, or does not pay, or where
        the text is not a list of JSON of as many elements wherever one looks, or holds a number that is beyond dtype
        or has more than 64 bits. Nothing is lost: the text then has to be read in another way.
    """
    parser = _parser_for(len(text))
    if parser is None or text.lstrip(_WHITESPACE)[:1] != b"[":
        return None
    try:
        root = parser.parse(text)
        numbers: Array = np.frombuffer(root.as_buffer(of_type="i" if dtype is np.int64 else "d"), dtype)
        # As fast as bytes.count() where there are few lists, and six times faster where there are thousands.
        lists = int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")))
        return numbers.reshape(_shape(root, lists)).copy()
    except (RuntimeError, TypeError, ValueError):
        return None  # a RuntimeError also where another thread has the parser at this moment


def _shape(root: Sequence[Any], lists: int) -> list[int]:
    """The shape of a document of lists and numbers that holds so many lists.

    simdjson flattens whatever is nested. Where all lists of a level are equally long, down to a level with which all
    lists of the text are accounted for, nothing is ragged and the rest are numbers.

    Raises:
        TypeError: A number stands beside a list.
        ValueError: The lists of a level differ in length.
    """
    shape, level, seen = [len(root)], [root], 1
    while seen < lists:
        # Of the lists of the innermost level only the lengths are kept: there may be millions.
        widths = list(map(len, chain.from_iterable(level)))
        (width,) = set(widths)
        shape.append(width)
        seen += len(widths)
        level = list(chain.from_iterable(level)) if seen < lists else []
    return shape


def _parser_for(size: int) -> Any:
    """The parser for a text of so many bytes; None where there is none, or where it would not pay."""
    if size < WORTHWHILE_BYTES:
        return None
    return _kept_parser() if size <= _KEPT_PARSER_BYTES else _new_parser()


@cache
def _kept_parser() -> Any:
    return _new_parser()


def _new_parser() -> Any:
    try:
        from simdjson import Parser
    except (ImportError, RuntimeError):
        return None  # the latter where its binary part does not load
    return Parser()
