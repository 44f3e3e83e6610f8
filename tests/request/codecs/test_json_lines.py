# SPDX-License-Identifier: Apache-2.0
"""application/jsonlines: one JSON value a line, to arrays and objects, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from bodies import array_of, refusal, status_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode
from sagemaker_inference_lite.content_types import JSON, JSON_LINES, X_JSON_LINES

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        ("1\n2\n", "int64", [1, 2]),
        ("1\n2.5", "float64", [1, 2.5]),
        ("[1, 2]\n[3, 4]\n", "int64", [[1, 2], [3, 4]]),
        ("[[0.5]]", "float64", [[[0.5]]]),
        ("[]\n[]", "int64", [[], []]),
        ("9223372036854775808\n1", "float64", [2.0**63, 1]),
        ('"a"\n"long"', "<U4", ["a", "long"]),
        ('["a", "b"]\n["c", "d"]', "<U1", [["a", "b"], ["c", "d"]]),
        ("1\r\n2\r\n", "int64", [1, 2]),
        ("\n\n1\n\r\n \t\n2\n\n", "int64", [1, 2]),
        ("\ufeff1\n2", "int64", [1, 2]),
        (" 1 \n\t2", "int64", [1, 2]),
        ("[1,\r2]", "int64", [[1, 2]]),
    ],
)
@pytest.mark.parametrize("content_type", [JSON_LINES, X_JSON_LINES, "application/jsonlines; charset=utf-8"])
def test_lines_of_numbers_or_text_are_arrays(body: str, dtype: str, expected: list[Any], content_type: str) -> None:
    """Lines that would be an array as one JSON list are that array; empty lines do not count, nor how lines end."""
    array = array_of(body.encode(), content_type)
    assert array.dtype == dtype
    assert array.shape == np.array(expected).shape
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        [{"a": 1}, {"b": [1, 2]}],
        [{"instances": [1]}],
        [[1], [2, 3]],
        [1, "a"],
        [[1], ["a"]],
        [True, None],
        [1, [2]],
        ["a:\n}", {}],
    ],
)
def test_other_lines_are_a_list(values: list[Any]) -> None:
    """Objects, ragged and mixed lines, truth values and null are a list, with one element a line."""
    decoded = decode("\n".join(map(json.dumps, values)).encode(), JSON_LINES)
    assert isinstance(decoded, list)
    assert decoded == values


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"[1\n2]", "line 1, column 3"),
        (b"[1\r\n2]\n3,4", "line 1, column 3"),
        (b"1\n [", "line 2, column 3"),
        (b"1\n3,4", "line 2, column 2"),
        (b"1\n2]", "line 2, column 2"),
        (b"1 2", "line 1, column 3"),
        (b"1,\n2", "line 1, column 2"),
        (b"1\r2", "line 1, column 3"),
        (b"\n\n{'a': 1}", "line 3, column 2"),
        (b"1\r\n\r\nNaN", "line 3, column 1"),
        (b"1\n\xef\xbb\xbf2", "line 2, column 1"),
        (b'1\n"\xff"', "line 2"),
        (b'1\n"\xed\xa0\x80"', "line 2"),
        (b'1\n"\\ud800"', "line 2"),
        (b"1\n1\0", "line 2, column 2"),
        (b"1\n\x0b\n", "line 2, column 1"),
        (b"1\n\0\n", "line 2, column 1"),
        (b"1\n1e400", "line 2, column 1"),
        (b"1\n" + b"9" * 1_000_000, "line 2, column 1"),
        (b"1\n" + b"[" * 100_000, "line 2"),
        (b"1\n" + b"[" * 100_000 + b"]" * 100_000, "line 2"),
        (b'{"a":' * 100_000, "line 1"),
        (b"[\n" * 100_000, "line 1"),
    ],
)
def test_a_line_that_is_not_json_is_400_with_its_place(body: bytes, where: str) -> None:
    """Each line must be one JSON value by itself; the message names the line and the column, and what was expected."""
    message = refusal(body, JSON_LINES)
    assert message.startswith("The body is not JSON Lines: ")
    assert where in message
    assert message.endswith("; expected one JSON value a line.")


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\r\n", b" \t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_body_without_a_value_is_400(body: bytes) -> None:
    """An empty body, or one of empty lines, is the client's mistake."""
    assert refusal(body, JSON_LINES) == "The body is empty; expected JSON Lines, one JSON value a line."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1, 2]), "1\n2\n"),
        (np.array([1.5, np.nan, np.inf]), "1.5\nnull\nnull\n"),
        (np.array([[1, 2], [3, 4]]), "[1,2]\n[3,4]\n"),
        (np.array([[1, 2], [3, 4]]).T, "[1,3]\n[2,4]\n"),
        (np.arange(8).reshape(2, 2, 2), "[[0,1],[2,3]]\n[[4,5],[6,7]]\n"),
        (np.arange(4).reshape(2, 1, 2, 1), "[[[0],[1]]]\n[[[2],[3]]]\n"),
        (np.zeros((2, 0)), "[]\n[]\n"),
        (np.zeros((2, 0, 3)), "[]\n[]\n"),
        (np.zeros((0, 2)), ""),
        ([], ""),
        (np.array(5), "5\n"),
        (np.array([True, False]), "true\nfalse\n"),
        (np.array([0.1], "float32"), "0.1\n"),
        (np.array([0.5], "float16"), "0.5\n"),
        (np.array([1, 2], ">i4"), "1\n2\n"),
        (np.array([["a", "b\nc"]]), '["a","b\\nc"]\n'),
        (np.array([{"a": 1}, None, [2]], dtype=object), '{"a":1}\nnull\n[2]\n'),
        (np.ma.array([1, 2], mask=[False, True]), "1\nnull\n"),
        (np.array(["2024-02-29", "NaT"], "datetime64[ns]"), '"2024-02-29T00:00:00"\nnull\n'),
        ([{"a": np.array([1])}, {"a": np.float32(0.5)}], '{"a":[1]}\n{"a":0.5}\n'),
        ((1, "a", None), '1\n"a"\nnull\n'),
        ([[1, 2], [3]], "[1,2]\n[3]\n"),
        ({"a": [1, 2]}, '{"a":[1,2]}\n'),
        ("grün", '"grün"\n'),
        (1.5, "1.5\n"),
        (float("nan"), "null\n"),
        (None, "null\n"),
        (np.float64(0.5), "0.5\n"),
        (np.datetime64("2024-02-29T00:00:00.000000001"), '"2024-02-29T00:00:00"\n'),
    ],
)
def test_elements_are_lines(value: object, expected: str) -> None:
    """Of arrays the first axis, of lists and tuples each element is a line; all else is one; each as JSON has it."""
    assert encode(value, JSON_LINES) == (expected.encode(), JSON_LINES)
    assert encode(value, X_JSON_LINES) == (expected.encode(), X_JSON_LINES)


class Tensor:
    """An array of another library's, known by numpy's protocol."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """The array."""
        return np.array([[1.5], [2.5]])


class Series:
    """A column of another library's, which knows how to be a list."""

    def tolist(self) -> list[Any]:
        """The list."""
        return ["a", None]


def test_arrays_of_other_libraries_are_lines_too() -> None:
    """What has ``tolist()`` or ``__array__()`` is the list or the array that it makes."""
    assert encode(Tensor(), JSON_LINES)[0] == b"[1.5]\n[2.5]\n"
    assert encode(Series(), JSON_LINES)[0] == b'"a"\nnull\n'


@pytest.mark.parametrize("value", [b"bytes", [b"bytes"], {1, 2}, [1j], np.array([1j]), ["\ud800"]], ids=repr)
def test_what_json_has_no_form_for_is_a_type_error(value: object) -> None:
    """A prediction that cannot be JSON cannot be lines of it."""
    with pytest.raises(TypeError):
        encode(value, JSON_LINES)


@given(st.lists(FLOATS, min_size=1) | st.lists(TEXT, min_size=1) | st.lists(st.lists(FLOATS, min_size=2, max_size=2)))
def test_lines_decode_as_the_list_of_them_does(values: list[Any]) -> None:
    """Lines come to what the JSON list of their values comes to, unless there are none."""
    body = encode(values, JSON_LINES)[0]
    assert body.count(b"\n") == len(values)
    if values:
        decoded: Any = decode(body, JSON_LINES)
        expected: Any = decode(encode(values, JSON)[0], JSON)
        assert type(decoded) is type(expected)
        assert list(decoded) == list(expected) if isinstance(decoded, list) else np.array_equal(decoded, expected)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_garbage_decodes_or_is_400(body: bytes) -> None:
    """No bytes do anything but decode, or raise ClientError with status 400."""
    assert status_of(body, JSON_LINES) in (200, 400)


@given(st.text(st.sampled_from("0123456789.,-+eE[]{}\"':ntf \n\r_\\"), max_size=40))
@settings(max_examples=300)
def test_near_misses_decode_or_are_400(body: str) -> None:
    """Text that is almost JSON Lines decodes, or raises ClientError with status 400."""
    assert status_of(body.encode(), JSON_LINES) in (200, 400)
