# SPDX-License-Identifier: Apache-2.0
"""Bodies to objects and back: JSON, CSV, NPY, the table of codecs, and what hostile bodies come to."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.codecs import decode, encode, register_codec, table
from sagemaker_inference_lite.codecs.table import Body
from sagemaker_inference_lite.content_types import CSV, JSON, NPY, MediaType
from sagemaker_inference_lite.errors import ClientError, NotAcceptableError, UnsupportedMediaTypeError

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
# What text a field may hold: anything but NUL, and what UTF-8 has no bytes for.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def refusal(body: bytes, content_type: str) -> str:
    """The message of the 400 that a body is answered with."""
    with pytest.raises(ClientError) as caught:
        decode(body, content_type)
    assert caught.value.status == 400
    assert len(caught.value.message) < 1000
    return caught.value.message


def status_of(body: Body, content_type: str) -> int:
    """The status that a body is answered with."""
    try:
        decode(body, content_type)
    except ClientError as error:
        return error.status
    return 200


def array_of(body: Body, content_type: str) -> Any:
    """What a body decodes to, which must be an array."""
    value = decode(body, content_type)
    assert isinstance(value, np.ndarray)
    return value


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An NPY body with that header, whatever it says."""
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        ("[1, 2]", "int64", [1, 2]),
        ("[[1, 2], [3, 4]]", "int64", [[1, 2], [3, 4]]),
        ("[1, 2.5]", "float64", [1, 2.5]),
        ("[1e2]", "float64", [100.0]),
        ("[1E2]", "float64", [100.0]),
        (" [\n1 ] ", "int64", [1]),
        ("[-9223372036854775808, 9223372036854775807]", "int64", [-(2**63), 2**63 - 1]),
        ("[9223372036854775808]", "float64", [2.0**63]),
        ("[1, 18446744073709551615]", "float64", [1, 2.0**64]),
        ("[100000000000000000000]", "float64", [1e20]),
        ("[]", "int64", []),
        ("[[], []]", "int64", [[], []]),
        ("[[[0.5]]]", "float64", [[[0.5]]]),
    ],
)
def test_json_lists_of_numbers_are_arrays(body: str, dtype: str, expected: list[Any]) -> None:
    """A list of nothing but numbers is an int64 array where int64 holds them all, and a float64 array otherwise."""
    array = array_of(body.encode(), JSON)
    assert array.dtype == dtype
    assert array.shape == np.array(expected).shape
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3]],
        [1, [2]],
        [[], [1]],
        ["a", "b"],
        [1, "2"],
        [True, False],
        [1, True],
        [1.5, None],
        [{"a": 1}],
        [[1], {}],
    ]
    + [{"instances": [[1, 2], [3, 4]]}, {}, 1, 1.5, "text", True, None, ""],
)
def test_other_json_stays_as_it_is(value: object) -> None:
    """Ragged and mixed lists, truth values, null, text, objects and single numbers are Python's own."""
    decoded = decode(json.dumps(value).encode(), JSON)
    assert type(decoded) is type(value)
    assert decoded == value


def test_json_of_more_dimensions_than_numpy_has_is_a_list() -> None:
    """A list that is nested deeper than an array can be stays a list."""
    assert isinstance(decode(b"[" * 100 + b"1" + b"]" * 100, JSON), list)


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", "application/json; charset=latin-1"])
def test_json_is_utf8_whatever_its_charset_says(prefix: bytes, content_type: str) -> None:
    """JSON is UTF-8, its charset parameter means nothing, and a byte order mark is passed over (RFC 8259)."""
    assert decode(prefix + '"grün"'.encode(), content_type) == "grün"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("body", "content_type"), [(b"[1, 2]", JSON), (b"1,2", CSV), (encode([1, 2], NPY)[0], NPY)])
def test_bodies_may_be_any_kind_of_bytes(kind: Any, body: bytes, content_type: str) -> None:
    """bytes, bytearray and memoryview decode to the same."""
    assert array_of(kind(body), content_type).ravel().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1"),
        (b"[1,\n2,]", "line 2"),
        (b"[1, NaN]", "line 1, column 5"),
        (b"[Infinity]", "line 1, column 2"),
        (b"{'a': 1}", "line 1, column 2"),
        (b"1 2", "line 1, column 3"),
        (b'"\xff"', "line 1"),
        (b'"\\ud800"', "line 1"),
        (b"[1e400]", "line 1, column 2"),
        (b"[" * 100_000, "line 1"),
        (b"[" * 100_000 + b"]" * 100_000, "line 1"),
        (b'{"a":' * 100_000, "line 1"),
    ],
)
def test_what_is_not_json_is_400_with_its_place(body: bytes, where: str) -> None:
    """A body that is not JSON, or too deep, is the client's mistake; the message says where, and what was expected."""
    message = refusal(body, JSON)
    assert message.startswith("The body is not JSON: ")
    assert where in message
    assert message.endswith("; expected one JSON value.")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        ("text", '"text"'),
        ({"a": [1, 2.5, True, None]}, '{"a":[1,2.5,true,null]}'),
        ((1, 2), "[1,2]"),
        (np.array([1.5, 2]), "[1.5,2.0]"),
        (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (np.array([[1, 2], [3, 4]]).T, "[[1,3],[2,4]]"),
        (np.array([1, 2, 3, 4])[::2], "[1,3]"),
        (np.array([0.1], "float32"), "[0.1]"),
        (np.array([1.5], "float16"), "[1.5]"),
        (np.array([1.5], "longdouble"), "[1.5]"),
        (np.array([1, 2], ">i4"), "[1,2]"),
        (np.array([True, False]), "[true,false]"),
        (np.array(["a", "b"]), '["a","b"]'),
        (np.array(["a", 1, None, [2]], dtype=object), '["a",1,null,[2]]'),
        (np.array(2.5), "2.5"),
        (np.array(3), "3"),
        (np.array([]), "[]"),
        (np.zeros((2, 0)), "[[],[]]"),
        (np.ma.array([1, 2], mask=[False, True]), "[1,null]"),
        (np.float32(0.5), "0.5"),
        (np.float64(0.5), "0.5"),
        (np.int8(-1), "-1"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.bool_(True), "true"),
        (np.longdouble(0.5), "0.5"),
        (np.str_("a"), '"a"'),
        ([np.float32(0.5), np.int64(1)], "[0.5,1]"),
        ({"predictions": np.array([[1, 2]])}, '{"predictions":[[1,2]]}'),
        ([np.array([1.5]), {"a": np.array(["b"])}], '[[1.5],{"a":["b"]}]'),
        ({1: "a", None: "b", 2.5: "c"}, '{"1":"a","null":"b","2.5":"c"}'),
        ({0: np.array([1])}, '{"0":[1]}'),
        ("grün", '"grün"'),
    ],
)
def test_json_takes_arrays_and_scalars_anywhere(value: object, expected: str) -> None:
    """Arrays of any order and type and numpy's scalars encode wherever they stand, as what they hold."""
    assert encode(value, JSON) == (expected.encode(), JSON)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "null"),
        ([1.0, float("inf"), -float("inf")], "[1.0,null,null]"),
        (np.array([1.0, np.nan, np.inf]), "[1.0,null,null]"),
        (np.array([np.nan], "float16"), "[null]"),
        (np.float32("nan"), "null"),
        ({"a": np.array([-np.inf])}, '{"a":[null]}'),
    ],
)
def test_numbers_that_json_lacks_are_null(value: object, expected: str) -> None:
    """NaN and the infinities are null, so that what is sent is always JSON."""
    assert encode(value, JSON)[0].decode() == expected


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_dates_are_rfc_3339_and_nat_is_null(unit: str) -> None:
    """Dates and times of numpy's encode like Python's, NaT as null, in arrays, inside of objects and alone."""
    dates = np.array(["2024-02-29", "NaT"], f"datetime64[{unit}]")
    assert json.loads(encode(dates, JSON)[0]) == ["2024-02-29T00:00:00", None]
    assert json.loads(encode({"a": dates}, JSON)[0]) == {"a": ["2024-02-29T00:00:00", None]}
    assert encode([dates[0], dates[1]], JSON)[0] == b'["2024-02-29T00:00:00",null]'
    assert encode(dt.datetime(2024, 2, 29), JSON)[0] == b'"2024-02-29T00:00:00"'


class Tensor:
    """An array of another library's, known by numpy's protocol."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """The array."""
        return np.array([[1.5]])


def test_arrays_of_other_libraries_encode() -> None:
    """Whatever numpy can make an array of encodes as that array, in each type."""
    assert encode(Tensor(), JSON)[0] == b"[[1.5]]"
    assert encode({"a": Tensor()}, JSON)[0] == b'{"a":[[1.5]]}'
    assert encode(Tensor(), CSV)[0] == b"1.5\n"
    assert array_of(encode(Tensor(), NPY)[0], NPY).tolist() == [[1.5]]


def deep_list() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1, 2}, 1j, object(), 2**70, deep_list(), {"a": np.array([1j])}, {(1, 2): 3}, "\ud800"],
    ids=type,
)
def test_what_json_has_no_form_for_is_a_type_error(value: object) -> None:
    """A prediction that cannot be JSON is a mistake of the handler's, so no RequestError but TypeError."""
    with pytest.raises(TypeError):
        encode(value, JSON)


@given(st.recursive(FLOATS | INT64, lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_json_numbers_survive_a_round_trip(value: Any) -> None:
    """Numbers and lists of them, decoded and encoded, are equal to what they were."""
    body, content_type = encode(value, JSON)
    decoded: Any = decode(body, content_type)
    has_floats = "." in body.decode() or "e" in body.decode()
    if not has_floats or not isinstance(decoded, np.ndarray):
        assert (decoded.tolist() if isinstance(decoded, np.ndarray) else decoded) == value
    else:
        assert np.array_equal(decoded, np.array(value, dtype=np.float64))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | FLOATS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_VALUES))
def test_json_objects_survive_a_round_trip(value: dict[str, Any]) -> None:
    """Objects, with whatever is in them, are equal to what they were."""
    assert decode(encode(value, JSON)[0], JSON) == value


@given(JSON_VALUES)
def test_json_decodes_as_pythons_own_does(value: object) -> None:
    """What is decoded, arrays taken for lists, is what Python's json makes of the same text."""
    body = json.dumps(value).encode()
    decoded: Any = decode(body, JSON)
    if isinstance(decoded, np.ndarray):
        assert np.array_equal(decoded, np.array(value, dtype=decoded.dtype))
    else:
        assert decoded == value


# -- CSV ---------------------------------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        ("1,2\n3,4", [[1, 2], [3, 4]]),
        ("1,2\n3,4\n\n\r\n", [[1, 2], [3, 4]]),
        ("1", [[1]]),
        ("1\n2\n3", [[1], [2], [3]]),
        ("1,2", [[1, 2]]),
        (" 1 ,\t2", [[1, 2]]),
        ("-1.5e-3,+2,.5,5.,007,1E3", [[-0.0015, 2, 0.5, 5, 7, 1000]]),
        ('"1","2"\n"3",4', [[1, 2], [3, 4]]),
        ("nan,inf,-Infinity", [[NAN, float("inf"), -float("inf")]]),
        ("1e400,2", [[float("inf"), 2]]),
        ("123456789012345678901234567890", [[123456789012345678901234567890.0]]),
        ("1,,3\n,,\n4,5,", [[1, NAN, 3], [NAN, NAN, NAN], [4, 5, NAN]]),
        (",1", [[NAN, 1]]),
        (",,,", [[NAN] * 4]),
        (',"",1', [[NAN, NAN, 1]]),
        ('1\n\n3\n""', [[1], [NAN], [3], [NAN]]),
        ("\n1", [[NAN], [1]]),
    ],
)
def test_csv_of_numbers_is_float64(body: str, expected: list[list[float]]) -> None:
    """Where all fields are numbers or empty the table is float64 with two dimensions, and empty is NaN."""
    array = array_of(body.encode(), CSV)
    assert array.dtype == np.float64
    assert array.shape == np.shape(expected)
    assert np.array_equal(array, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a,b\nc,d", [["a", "b"], ["c", "d"]]),
        ("x,y\n1,2", [["x", "y"], ["1", "2"]]),
        ("a,,1\n,2,", [["a", "", "1"], ["", "2", ""]]),
        ('"a, b","c ""d"""\n"e\nf",g', [["a, b", 'c "d"'], ["e\nf", "g"]]),
        ('"e\r\nf",g\r\nh,i', [["e\r\nf", "g"], ["h", "i"]]),
        ("1_000", [["1_000"]]),
        ("\u0661", [["\u0661"]]),  # a digit, but of another script
        ("1\u00a0", [["1\u00a0"]]),
        ("true,null", [["true", "null"]]),
        ("[1,2]", [["[1", "2]"]]),
        ("1],[2", [["1]", "[2"]]),
        ("1 2", [["1 2"]]),
        ("0x10", [["0x10"]]),
        ("grün", [["grün"]]),
        ("1, ,3", [["1", " ", "3"]]),
        (" ", [[" "]]),
    ],
)
def test_csv_of_anything_else_is_text(body: str, expected: list[list[str]]) -> None:
    """Where one field is no number all are text, as they stand; JSON within CSV is text as well."""
    array = array_of(body.encode(), CSV)
    assert array.dtype.kind == "U"
    assert array.tolist() == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x,y\n1,2\n", [[1, 2]]),
        ("x_1,ü\r\n1,2", [[1, 2]]),
        ('"x\ny",z\n1,2', [[1, 2]]),
        ("5,6\n1,", [[1, NAN]]),
        ("x\n1", [[1]]),
        ("x,y", np.empty((0, 2))),
        ("x,y\n", np.empty((0, 2))),
    ],
)
@pytest.mark.parametrize("parameter", ["header=present", 'Header="Present"'])
def test_csv_header_is_dropped_where_it_is_announced(body: str, expected: Any, parameter: str) -> None:
    """With header=present the first record is no data and its names do not make the table text (RFC 4180)."""
    array = array_of(body.encode(), f"text/csv; {parameter}")
    assert array.dtype == np.float64
    assert array.shape == np.shape(expected)
    assert np.array_equal(array, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        ("1,2\n3\n", CSV, "Row 2 of the CSV (line 2) has 1 fields; expected 2, as row 1 has."),
        ("1,2\n3,4\n5,6,7", CSV, "Row 3 of the CSV (line 3) has 3 fields; expected 2, as row 1 has."),
        ("1,2\n\n3,4", CSV, "Row 2 of the CSV (line 2) has 1 fields; expected 2, as row 1 has."),
        ('a,"b\nc"\nd', CSV, "Row 2 of the CSV (line 3) has 1 fields; expected 2, as row 1 has."),
        ("x,y,z\n1,2", "text/csv; header=present", "Row 2 of the CSV (line 2) has 2 fields; expected 3, as row 1 has."),
        ("x\n1,2", "text/csv; header=present", "Row 2 of the CSV (line 2) has 2 fields; expected 1, as row 1 has."),
        ("", CSV, "The body is empty; expected CSV with at least one record."),
        ("\r\n\n", CSV, "The body is empty; expected CSV with at least one record."),
        ("a\0,b", CSV, "The body holds the character NUL; expected CSV with at least one record."),
    ],
)
def test_bad_csv_is_400_naming_the_row(body: str, content_type: str, message: str) -> None:
    """Records of different lengths, an empty body and NUL are the client's mistakes, and the row is named."""
    assert refusal(body.encode(), content_type) == message


@pytest.mark.parametrize(
    ("body", "place"),
    [('1,"2', "line 1"), ('a\n"b"c', "line 2"), ("x" * 200_000, "line 1")],
)
def test_csv_that_cannot_be_taken_apart_is_400_with_its_line(body: str, place: str) -> None:
    """A quote that does not close or closes too early, and a field beyond the limit, are named with their line."""
    message = refusal(body.encode(), CSV)
    assert message.startswith("The body is not CSV: ")
    assert message.endswith(f"at {place}.")


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("utf-8", "utf-8"), ("UTF-8", "utf-8-sig"), ("utf8", "utf-8"), ("iso-8859-1", "latin-1"), ("Latin1", "latin-1")]
    + [("windows-1252", "cp1252"), ("utf-16", "utf-16"), ("iso-8859-15", "iso-8859-15")],
)
def test_csv_charset_is_honoured(charset: str, encoding: str) -> None:
    """Text is read in the charset that the content type names, and a byte order mark is no part of it."""
    assert array_of("grün,1".encode(encoding), f"text/csv; charset={charset}").tolist() == [["grün", "1"]]
    assert array_of("1,2".encode(encoding), f"text/csv; charset={charset}").tolist() == [[1, 2]]


def test_every_charset_that_is_offered_is_known() -> None:
    """Each charset of the list reads a number."""
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        decode(b"1", "text/csv; charset=none")
    names = caught.value.message.rpartition("one of ")[2].rstrip(".").split(", ")
    assert len(names) > 15
    for name in names:
        assert array_of("1,2".encode(name), f"text/csv; charset={name}").tolist() == [[1, 2]]


@pytest.mark.parametrize("charset", ["klingon", "idna", "zlib", "rot13", "unicode_escape", "../x", "x" * 5000])
def test_unknown_charset_is_415_with_the_known_ones(charset: str) -> None:
    """A charset that is not known makes the type unsupported, Python's codecs that are no charsets among them."""
    with pytest.raises(UnsupportedMediaTypeError, match=r"is not supported; expected one of .*utf-8") as caught:
        decode(b"1", f'text/csv; charset="{charset}"')
    assert len(caught.value.message) < 1000


def test_text_that_is_not_in_its_charset_is_400_with_the_byte() -> None:
    """Bytes that the charset does not have are the client's mistake, and the first is named."""
    assert "utf-8" in refusal(b"ab\xff", CSV)
    assert "at byte 2" in refusal(b"ab\xff", CSV)
    assert "us-ascii" in refusal("ü".encode(), "text/csv; charset=us-ascii")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([[1.5, 2], [3, 4]]), "1.5,2.0\n3.0,4.0\n"),
        (np.array([1, 2, 3]), "1\n2\n3\n"),
        (np.array(5), "5\n"),
        (np.array([[1, 2], [3, 4]]).T, "1,3\n2,4\n"),
        (np.array([1, 2], ">i8"), "1\n2\n"),
        (np.array([0.1], "float32"), "0.1\n"),
        (np.array([0.5], "float16"), "0.5\n"),
        (np.array([[1, np.nan], [2, 3]]), "1.0,nan\n2.0,3.0\n"),
        (np.array([[1, np.nan, np.inf, -np.inf]]), "1.0,nan,inf,-inf\n"),
        (np.array([True, False]), "True\nFalse\n"),
        (np.array([["a", "b, c"], ['d "e"', "f\ng"]]), 'a,"b, c"\n"d ""e""","f\ng"\n'),
        (np.array(["a\rb", ""]), '"a\rb"\n""\n'),
        (np.array(["2024-02-29", "NaT"], "datetime64[D]"), "2024-02-29\nNaT\n"),
        ([["a", None], [1.5, 2]], "a,\n1.5,2\n"),
        (np.array([[np.float64(1.5), dt.date(2024, 2, 29)]], dtype=object), "1.5,2024-02-29\n"),
        ([1, 2], "1\n2\n"),
        ("label", "label\n"),
        (1.5, "1.5\n"),
        (np.ma.array([1.5, 2], mask=[False, True]), '1.5\n""\n'),
        (np.zeros((0, 3)), ""),
        ("grün", "grün\n"),
    ],
)
def test_csv_of_arrays(value: object, expected: str) -> None:
    """Two dimensions are rows, one is a value a line; fields are quoted where they must be, numbers never."""
    assert encode(value, CSV) == (expected.encode(), CSV)


@pytest.mark.parametrize(
    "value", [np.zeros((2, 2, 2)), [[1, 2], [3]], {"a": 1}, [{"a": 1}], object(), [[1, b"x", None]], {1, 2}], ids=repr
)
def test_what_csv_cannot_hold_is_406(value: object) -> None:
    """A prediction that is no table is not acceptable as CSV: another type would have been."""
    with pytest.raises(NotAcceptableError, match="text/csv"):
        encode(value, CSV)


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=1)))
def test_csv_numbers_survive_a_round_trip(rows: list[list[float]]) -> None:
    """Every finite number is read back as the number that was written."""
    assert array_of(encode(np.array(rows), CSV)[0], CSV).tolist() == rows


@given(st.lists(st.lists(st.floats(), min_size=2, max_size=2), min_size=1))
def test_csv_numbers_that_are_not_finite_survive_too(rows: list[list[float]]) -> None:
    """NaN and the infinities are read back as what they were."""
    assert np.array_equal(array_of(encode(np.array(rows), CSV)[0], CSV), np.array(rows), equal_nan=True)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1)))
def test_csv_text_survives_a_round_trip(rows: list[list[str]]) -> None:
    """Text of any kind, with commas, quotes and line ends, is read back as it was."""
    rows = [["text", *row] for row in rows]
    assert array_of(encode(np.array(rows), CSV)[0], CSV).tolist() == rows


FIELDS = st.sampled_from(
    ["1", "-2.5", "", "1e3", "007", " 4", '"5"', '""', "nan", "a", "1_0", "[1", "2]", "null", "-0"]
)


@given(st.lists(st.lists(FIELDS, min_size=1, max_size=3), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_the_fast_way_reads_as_the_thorough_one_does(rows: list[list[str]], line_end: str) -> None:
    """A quoted field takes a table from the fast reader to the thorough one, and changes nothing but its row."""
    width = len(rows[0])
    body = line_end.join(",".join(row) for row in rows)
    assume(body and body == body.rstrip("\r\n"))  # an empty line at the end is no record
    longer = ",".join(['"8"'] * width) + line_end + body
    if any(len(row) != width for row in rows):
        refusal(longer.encode(), CSV)
        refusal(body.encode(), CSV)
    else:
        fast, thorough = array_of(body.encode(), CSV), array_of(longer.encode(), CSV)[1:]
        assert fast.dtype.kind == thorough.dtype.kind
        assert fast.tolist() == thorough.tolist() or np.array_equal(fast, thorough, equal_nan=True)


# -- NPY ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "f2", ">f8", "i1", "u8", "?", "c16", "M8[ns]", "m8[s]", "U3", "S2", "V4"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 5), (2, 0), (2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_survives_a_round_trip(dtype: str, shape: tuple[int, ...], order: Any) -> None:
    """Arrays of all types that hold no objects are read back with their type, shape and order."""
    array = np.zeros(shape, dtype, order)
    body, content_type = encode(array, NPY)
    decoded = array_of(body, content_type)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tobytes() == array.tobytes()
    assert decoded.flags.f_contiguous == array.flags.f_contiguous


def test_npy_array_is_the_callers_own() -> None:
    """A decoded array can be written to, and leaves the body as it was."""
    body = bytearray(encode([1.5, 2.5], NPY)[0])
    array = array_of(body, NPY)
    array[0] = 7
    assert array_of(body, NPY).tolist() == [1.5, 2.5]


def test_npy_of_version_2_and_structured_arrays_are_read() -> None:
    """Version 2.0, and arrays with fields, are read as numpy reads them."""
    array = np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    assert array_of(stream.getvalue(), NPY).tolist() == array.tolist()


def test_pickles_are_not_run() -> None:
    """An array of objects, a pickle and a pickle within NPY are refused, and what they would run is not run."""

    class Exploit:
        def __reduce__(self) -> Any:
            return exec, ("raise SystemExit('the pickle was run')",)

    stream = io.BytesIO()
    np.save(stream, np.array([Exploit()], dtype=object), allow_pickle=True)
    assert "not unpickled" in refusal(stream.getvalue(), NPY)
    assert "is not NPY" in refusal(pickle.dumps(Exploit()), NPY)


GOOD_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n"


@pytest.mark.parametrize("cut", [0, 3, 6, 8, 10, 60, -1])
def test_truncated_npy_is_400(cut: int) -> None:
    """A body that ends early, wherever, is the client's mistake."""
    refusal(encode([1.5, 2.5], NPY)[0][:cut], NPY)


def test_npy_with_something_behind_it_is_400() -> None:
    """A body must be exactly one array."""
    message = refusal(encode([1.5, 2.5], NPY)[0] + b"x", NPY)
    assert message == "The NPY body has 17 bytes behind its header; expected an array of shape (2,) and type float64."


@pytest.mark.parametrize(
    "body",
    [
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000,)"), b"x" * 16),
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000,)"), b"x" * 16, version=2),
        npy(GOOD_HEADER.replace("(2,)", f"({10**4000}, {10**4000})")),
        npy(GOOD_HEADER.replace("(2,)", "(1000000000000, 0)")),
        npy(GOOD_HEADER.replace("(2,)", f"(0, {10**30})")),
        npy(GOOD_HEADER.replace("(2,)", "(-1, -2)"), b"x" * 16),
        npy(GOOD_HEADER.replace("(2,)", "(" + "1, " * 3000 + ")"), b"x" * 8),
        npy(GOOD_HEADER.replace("<f8", "<U0").replace("(2,)", "(1000000000000,)")),
        npy(GOOD_HEADER.replace("'<f8'", "[]").replace("(2,)", "(1000000000000,)")),
        npy(GOOD_HEADER.replace("<f8", "|O"), b"x" * 16),
        npy(GOOD_HEADER.replace("'<f8'", "[('a', '|O')]"), b"x" * 16),
        npy(GOOD_HEADER.replace("<f8", "no type"), b"x" * 16),
        npy(GOOD_HEADER.replace("<f8", "(100000000000,)f8"), b"x" * 16),
        npy(GOOD_HEADER, b"x" * 16, version=3),
        npy(GOOD_HEADER, b"x" * 16, version=9),
        npy("-" * 9900 + "1"),
        npy("1+" * 4900 + "1"),
        npy("[" * 9900),
        npy("(" * 190 + ")" * 190),
        npy("{" * 90 + "}" * 90),
        npy("a." * 4900 + "a"),
        npy("'''"),
        npy("\0"),
        npy(""),
        npy(" " * 60_000),
        npy(" " * 1_000_000, version=2),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"PK\x03\x04" + b"\0" * 60,
    ],
    ids=range(28),
)
def test_hostile_npy_is_400(body: bytes) -> None:
    """Headers that promise too much, nest too deeply or are nonsense are the client's mistake, and allocate nothing."""
    refusal(body, NPY)


@pytest.mark.parametrize(
    "value", [{"a": 1}, None, [[1, 2], [3]], np.array([object()]), np.ma.array([1, 2], mask=[False, True])]
)
def test_what_npy_cannot_hold_is_406(value: object) -> None:
    """A prediction that would have to be pickled, or that hides some of its numbers, is not acceptable as NPY."""
    with pytest.raises(NotAcceptableError, match="application/x-npy"):
        encode(value, NPY)


# -- Hostile bodies ----------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=200), st.sampled_from([JSON, CSV, NPY, "text/csv; charset=utf-16", "text/csv; header=present"])
)
@settings(max_examples=300)
def test_garbage_decodes_or_is_400(body: bytes, content_type: str) -> None:
    """No bytes do anything but decode, or raise ClientError with status 400."""
    assert status_of(body, content_type) in (200, 400)


@given(st.text(st.sampled_from("0123456789.,-+eE[]{}\"':ntf \n\r_\\"), max_size=40), st.sampled_from([JSON, CSV]))
@settings(max_examples=300)
def test_near_misses_decode_or_are_400(body: str, content_type: str) -> None:
    """Text that is almost JSON or CSV decodes, or raises ClientError with status 400."""
    assert status_of(body.encode(), content_type) in (200, 400)


@given(st.integers(0, 143), st.integers(0, 255))
@settings(max_examples=300)
def test_npy_with_a_wrong_byte_decodes_or_is_400(position: int, byte: int) -> None:
    """An NPY body with any one byte changed decodes to something, or raises ClientError with status 400."""
    body = bytearray(encode([1.5, 2.5], NPY)[0])
    body[position] = byte
    assert status_of(body, NPY) in (200, 400)


HOSTILE = """
import resource, sys
from sagemaker_inference_lite import codecs
from sagemaker_inference_lite.errors import ClientError

bodies = [
    (b'["' + b"a" * 1_000_000 + b'"' + b',"b"' * 200_000 + b"]", "application/json"),
    (b"a" * 100_000 + b"\\nb" * 500_000, "text/csv"),
    (b"\\n" * 3_000_000 + b"1,2", "text/csv"),
    (b"[" * 3_000_000, "application/json"),
    (
        b"\\x93NUMPY\\x01\\x00\\x48\\x00{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }      ",
        "application/x-npy",
    ),
]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for body, content_type in bodies:
    try:
        codecs.decode(body, content_type)
    except ClientError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_hostile_bodies_take_no_more_memory_than_their_size_explains() -> None:
    """Bodies of some megabytes that would blow up in a careless decoder stay within two hundred."""
    run = subprocess.run([sys.executable, "-c", HOSTILE], stdout=subprocess.PIPE, timeout=60, check=True)
    assert int(run.stdout) < 200 * 1024


# -- The table ---------------------------------------------------------------------------------------------------------


def test_what_is_supported_is_advertised() -> None:
    """The types that can be decoded and encoded are listed, the preferred one first."""
    assert codecs.decodable() == (JSON, CSV, NPY)
    assert codecs.encodable() == (JSON, CSV, NPY)


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/x-npz", "*/*"])
def test_unknown_types_are_415_with_the_known_ones(content_type: str) -> None:
    """A type without a codec is refused with status 415, and the message lists those that have one."""
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        decode(b"1", content_type)
    assert caught.value.status == 415
    assert repr(content_type) in caught.value.message
    assert "application/json or text/csv or application/x-npy" in caught.value.message


@pytest.mark.parametrize("content_type", ["", "json", "text/csv; charset", "text/csv, text/csv"])
def test_a_content_type_that_is_none_is_400(content_type: str) -> None:
    """A Content-Type header that the grammar does not allow is the client's mistake."""
    assert "is not a media type" in refusal(b"1", content_type)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [(None, JSON), ("", JSON), ("*/*", JSON), ("text/*", CSV), ("application/x-npy;q=0.5, text/csv;q=0.4", NPY)],
)
def test_encode_answers_in_a_type_that_is_accepted(accept: str | None, expected: str) -> None:
    """Body and content type are made together, of the type that the Accept header prefers."""
    body, content_type = encode([[1.5]], accept)
    assert content_type == expected
    assert array_of(body, content_type).tolist() == [[1.5]]


def test_encode_refuses_what_it_has_no_codec_for() -> None:
    """Where no codec makes an accepted type the error has status 406 and lists what there is."""
    with pytest.raises(NotAcceptableError, match="application/json, text/csv, application/x-npy"):
        encode([1], "image/png")


@pytest.fixture
def _table_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a test registers."""
    monkeypatch.setattr(table, "_codecs", dict(table._codecs))
    monkeypatch.setattr(table, "_decodable", table._decodable)
    monkeypatch.setattr(table, "_encodable", table._encodable)


@pytest.mark.usefixtures("_table_as_it_was")
def test_a_registered_codec_is_used_and_advertised() -> None:
    """A codec for a new type decodes with the request's parameters, encodes, and is listed last."""

    def decode_words(body: bytes, media_type: MediaType) -> object:
        return body.decode(media_type.charset or "ascii").split()

    register_codec("Text/X-Words", decode=decode_words, encode=lambda value: str(value).encode())
    assert codecs.decodable()[-1] == codecs.encodable()[-1] == "text/x-words"
    assert decode("ä b".encode("latin-1"), "text/x-words; charset=latin-1") == ["ä", "b"]
    assert encode(5, "text/x-words") == (b"5", "text/x-words")


@pytest.mark.usefixtures("_table_as_it_was")
def test_a_codec_may_serve_one_direction_and_replace_another() -> None:
    """A codec that only encodes leaves its type unsupported for requests; a second one takes the place of the first."""
    register_codec("text/x-words", encode=lambda value: b"1")
    assert "text/x-words" not in codecs.decodable()
    with pytest.raises(UnsupportedMediaTypeError):
        decode(b"a", "text/x-words")
    register_codec("text/x-words", decode=lambda body, media_type: 2)
    assert "text/x-words" not in codecs.encodable()
    assert decode(b"a", "text/x-words") == 2


@pytest.mark.parametrize("content_type", ["words", "text/*", "*/*", "text/x; a=b"])
def test_codecs_are_registered_for_plain_types_only(content_type: str) -> None:
    """A codec for a wildcard, for a type with parameters or for nothing is refused with ValueError."""
    with pytest.raises(ValueError, match=r"type/subtype"):
        register_codec(content_type, decode=lambda body, media_type: None)


def test_a_codec_without_functions_is_refused() -> None:
    """A codec that neither decodes nor encodes is refused with ValueError."""
    with pytest.raises(ValueError, match="needs a function"):
        register_codec("text/x-words")


def test_the_package_imports_neither_numpy_nor_orjson() -> None:
    """Only this module pays for the libraries that it uses."""
    program = (
        "import sys, sagemaker_inference_lite.content_types; sys.exit(not {'numpy', 'orjson'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
