# SPDX-License-Identifier: Apache-2.0
"""text/csv: bodies to tables of numbers or text, and back; with and without simdjson."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from bodies import array_of, outcome, refusal, status_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import csv_codec, decode, encode
from sagemaker_inference_lite.content_types import CSV
from sagemaker_inference_lite.errors import NotAcceptableError, UnsupportedMediaTypeError

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# What text a field may hold: anything but NUL, and what UTF-8 has no bytes for.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
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
    [('1,"2', "line 1"), ('a\n"b"c', "line 2"), ("x" * 200_000, "line 1"), ("1" * 1_000_000, "line 1")],
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
    "value", [np.zeros((2, 2, 2)), [[1, 2], [3]], {"a": 1}, [{"a": 1}], ..., [[1, b"x", None]], {1, 2}], ids=repr
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
    ["1", "-2.5", "", "1e3", "007", " 4", '"5"', '""', "nan", "a", "1_0", "[1", "2]", "null", "-0", " -0\t", "0"]
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
        if fast.dtype.kind == "U":
            assert fast.tolist() == thorough.tolist()
        else:
            assert fast.tobytes() == thorough.tobytes()  # tells the zeros apart


@pytest.mark.parametrize("body", ["-0", "-0,1", "1,-0", "-0\n1", "1,2\n-0 ,3", "-0.0", "1,-0e5", "-0,", "1,,-0"])
def test_csv_has_a_negative_zero(body: str) -> None:
    """A zero with a minus is the negative zero, as float() reads it."""
    array = array_of(body.encode(), CSV)
    assert (np.signbit(array) & (array == 0)).any()


@pytest.mark.parametrize("body", [b"\xff", b"1,2\n\xed\xa0\x80,3", b"1,\0", b"\0" * 1000, b"1\0,2\n", b"\xef\xbb\xbf"])
def test_csv_of_bytes_that_are_no_text_is_400(body: bytes) -> None:
    """What is not UTF-8, lone surrogates among it, NUL, and a byte order mark alone are the client's mistakes."""
    assert refusal(body, CSV).startswith("The body ")


def test_csv_of_text_whose_array_would_be_too_large_is_400() -> None:
    """One long field among many short ones is refused, with what would have been accepted."""
    message = refusal(b"a" * 100_000 + b"\nb" * 1000, CSV)
    assert message.startswith("The CSV has 1001 fields and one of 100000 characters; ")
    assert message.endswith("Expected fewer rows, or JSON.")


@given(st.binary(max_size=200), st.sampled_from([CSV, "text/csv; charset=utf-16", "text/csv; header=present"]))
@settings(max_examples=300)
def test_garbage_decodes_or_is_400(body: bytes, content_type: str) -> None:
    """No bytes do anything but decode, or raise ClientError with status 400."""
    assert status_of(body, content_type) in (200, 400)


@given(st.text(st.sampled_from("0123456789.,-+eE[]{}\"':ntf \n\r_\\"), max_size=40))
@settings(max_examples=300)
def test_near_misses_decode_or_are_400(body: str) -> None:
    """Text that is almost CSV decodes, or raises ClientError with status 400."""
    assert status_of(body.encode(), CSV) in (200, 400)


# -- With and without simdjson -----------------------------------------------------------------------------------------

ODD = [
    *("0", "-0", "-0.0", "00", "007", "+1", "1.", ".5", "1e5", "1E+5", "1e", "-", "--1", "0x10", "1e400", "-1e400"),
    *("1e-400", "5e-324", "2.2250738585072011e-308", "9007199254740993", "9223372036854775808", "1" * 100, "1" * 400),
    *("18446744073709551616", "0." + "3" * 2000, "nan", "NaN", "-nan", "inf", "Infinity", "null", "true", '"1"', '""'),
    *('"a', 'a"', '"1,2"', '"1\n2"', "", " ", "\t1", " 2 ", "\x0b1", "\x0c1", "\xa01", "\ufeff1", "1\0", "1 2", "1_0"),
    *("a", "1\r", "\r1", "1\r2", "[1", "2]", "[]", "{}", "१", "\x85", "\u2028", "\ud7ff"),
]


def same(body: bytes, content_type: str = CSV) -> None:
    """What comes of a body with simdjson must be what comes of it without."""
    assert outcome(body, content_type, fast=True) == outcome(body, content_type, fast=False)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "form", ["%s", "%s\n", "%s,2", "1,%s", "1,%s,", "1,2\n%s,4", "1,2\r\n3,%s\r\n", "1\n%s\n3", "1,%s\n2", "%s\n\n1"]
)
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_odd_fields_are_the_same_with_simdjson(odd: str, form: str, prefix: str) -> None:
    """Fields at the edge of what is a number, and rows at the edge of a table, come to the same with simdjson."""
    body = (prefix + form.replace("%s", odd)).encode()
    same(body)
    same(body, "text/csv; header=present")


@given(
    st.lists(
        st.lists(
            st.sampled_from(ODD) | FLOATS.map(repr) | st.integers(-(2**70), 2**70).map(str), min_size=1, max_size=3
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
@settings(max_examples=500)
def test_tables_are_the_same_with_simdjson(rows: list[list[str]], line_end: str) -> None:
    """Tables of any fields, even and ragged, come to the same with simdjson, to the last bit."""
    same(line_end.join(",".join(row) for row in rows).encode())


@given(st.text(st.sampled_from('0123456789.,-+eE \n\r"'), max_size=40))
@settings(max_examples=500)
def test_near_misses_are_the_same_with_simdjson(body: str) -> None:
    """What is almost a table of numbers comes to the same with simdjson."""
    same(body.encode())


def test_csv_of_numbers_is_read_by_simdjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long table of numbers is read without orjson, which would make an object of each."""
    table = np.arange(9000.0).reshape(-1, 3)
    body = encode(table, CSV)[0]
    monkeypatch.setattr(csv_codec, "orjson", None)
    assert array_of(body, CSV).tolist() == table.tolist()
