# SPDX-License-Identifier: Apache-2.0
"""application/json: bodies to arrays, text and objects, and back; with and without simdjson."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from bodies import array_of, outcome, refusal, status_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sagemaker_inference_lite.codecs import decode, encode, json_lists
from sagemaker_inference_lite.codecs.arrays import MAX_TEXT_ARRAY_BYTES
from sagemaker_inference_lite.content_types import JSON

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)


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
        [1, "2"],
        ["1", 2],
        [["a"], ["b", "c"]],
        [["a"], []],
        [["a"], "b"],
        [["a", None]],
        [["a"], [["b"]]],
        [True, False],
        [1, True],
        [1.5, None],
        [{"a": 1}],
        [[1], {}],
    ]
    + [{"inputs": [1, 2]}, {}, 1, 1.5, "text", True, None, ""],
)
def test_other_json_stays_as_it_is(value: object) -> None:
    """Ragged and mixed lists, truth values, null, single texts and numbers, and objects are Python's own."""
    decoded = decode(json.dumps(value).encode(), JSON)
    assert type(decoded) is type(value)
    assert decoded == value


def test_json_of_more_dimensions_than_numpy_has_is_a_list() -> None:
    """A list that is nested deeper than an array can be stays a list."""
    assert isinstance(decode(b"[" * 100 + b"1" + b"]" * 100, JSON), list)


@pytest.mark.parametrize(
    "value",
    [
        ["a", "b"],
        ["1", "2"],
        [["a", "long"], ["grün", "\U0001f600"]],
        [[["a"], ["b"]]],
        [""],
        ["[1", "{}", "a:b", "\0a", 'tfn"'],
    ],
)
def test_json_lists_of_text_are_arrays(value: list[Any]) -> None:
    """A list of nothing but text, nested or not, is an array of it with dtype str."""
    array = array_of(json.dumps(value).encode(), JSON)
    assert array.dtype.kind == "U"
    assert array.shape == np.array(value).shape
    assert array.tolist() == value


def test_json_of_text_that_an_array_cannot_hold_stays_a_list() -> None:
    """Text that ends with NUL, which numpy drops, and text whose array would be too large, stay as they are."""
    assert decode(b'["a", "b\\u0000"]', JSON) == ["a", "b\0"]
    many = ["x" * 1000] + [""] * (MAX_TEXT_ARRAY_BYTES // 4000)
    decoded = decode(json.dumps(many).encode(), JSON)
    assert isinstance(decoded, list)
    assert decoded == many
    assert array_of(json.dumps(many[:-1]).encode(), JSON).shape == (len(many) - 1,)


def test_json_text_of_more_dimensions_than_numpy_has_is_a_list() -> None:
    """A list of text that is nested deeper than an array can be stays a list."""
    assert isinstance(decode(b"[" * 100 + b'"a"' + b"]" * 100, JSON), list)


@pytest.mark.parametrize(
    "listed",
    [
        "[[1, 2], [3, 4]]",
        "[1.5]",
        "[]",
        '["a", "b"]',
        "[[1], [2, 3]]",
        '[{"a": 1}]',
        "[null]",
        "[[1], {}]",
        '["a:b", 1]',
    ]
    + ['[1, {"a": [1]}]', '["}"]', "[[[]]]", '[{"instances": [1]}]', "[9223372036854775808]"],
)
@pytest.mark.parametrize(
    "form",
    [
        '{"instances":%s}',
        ' {\n"instances"\t: %s }\r\n',
        '{"inst\\u0061nces": %s}',
        '{"instances": 1, "instances": %s}',
        '{"instances": [0], "inst\\u0061nces": %s}',
    ],
)
def test_an_object_of_instances_is_its_list(listed: str, form: str) -> None:
    """An object whose only key is "instances" decodes as its list would, however the object is written."""
    decoded, expected = decode((form % listed).encode(), JSON), decode(listed.encode(), JSON)
    assert type(decoded) is type(expected)
    if isinstance(expected, np.ndarray):
        assert isinstance(decoded, np.ndarray)
        assert (decoded.dtype, decoded.shape) == (expected.dtype, expected.shape)
        assert decoded.tobytes() == expected.tobytes()
    else:
        assert decoded == expected


@pytest.mark.parametrize(
    "value",
    [
        {"instances": 1},
        {"instances": {"a": 1}},
        {"instances": "text"},
        {"instances": None},
        {"instances": [1, 2], "signature_name": "serving_default"},
        {"Instances": [1, 2]},
        {"instances": [1], "b": {}},
        {"": [1]},
    ],
)
def test_other_objects_stay_dicts(value: dict[str, Any]) -> None:
    """An object with another key beside "instances", with other keys or with another value is a dict as it stands."""
    assert decode(json.dumps(value).encode(), JSON) == value


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"instances":[1,2}', "line 1, column 18"),
        (b'{"instances":[1]}}', "line 1, column 18"),
        (b'{"instances":[1],}', "line 1, column 17"),
        (b'{\n"instances":\n}', "line 3, column 1"),
        (b'{"instances":[1] [2]}', "line 1, column 18"),
        (b'{"instances":1},{"a":2}', "line 1, column 16"),
    ],
)
def test_instances_that_are_not_json_are_400_with_their_place(body: bytes, where: str) -> None:
    """A mistake within an object of instances is named with its place in the whole body."""
    message = refusal(body, JSON)
    assert message.startswith("The body is not JSON: ")
    assert where in message


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8", "application/json; charset=latin-1"])
def test_json_is_utf8_whatever_its_charset_says(prefix: bytes, content_type: str) -> None:
    """JSON is UTF-8, its charset parameter means nothing, and a byte order mark is passed over (RFC 8259)."""
    assert decode(prefix + '"grün"'.encode(), content_type) == "grün"


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
        (b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1"),
        (b'{"instances":' * 100_000, "line 1"),
        (b'["\xed\xa0\x80"]', "line 1"),
        (b"[1, 2\0]", "line 1, column 6"),
        (b'["\0"]', "line 1, column 3"),
        (b"[" + b"1" * 1_000_000 + b"]", "line 1, column 2"),
        (b"[-" + b"9" * 1_000_000 + b".5]", "line 1, column 2"),
        (b"[1e" + b"9" * 1_000_000 + b"]", "line 1, column 2"),
        (b"\xef\xbb\xbf\xef\xbb\xbf[1]", "line 1, column 1"),
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


def stands_for(decoded: Any, value: object) -> bool:
    """Whether this was made of a value: equal to it, but that float64 rounds large integers beside floats."""
    if isinstance(decoded, np.ndarray):
        return bool(decoded.tolist() == np.array(value).tolist())
    return bool(decoded == value)


BESIDE_A_FLOAT = [2**53 + 1, 0.0]


@given(st.recursive(FLOATS | INT64, lambda inner: st.lists(inner, max_size=4), max_leaves=12))
@example(BESIDE_A_FLOAT)
def test_json_numbers_survive_a_round_trip(value: Any) -> None:
    """Numbers and lists of them, decoded and encoded, are equal to what they were."""
    body, content_type = encode(value, JSON)
    decoded: Any = decode(body, content_type)
    assert stands_for(decoded, value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | FLOATS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_VALUES))
def test_json_objects_survive_a_round_trip(value: dict[str, Any]) -> None:
    """Objects, with whatever is in them, are equal to what they were."""
    assert decode(encode(value, JSON)[0], JSON) == value


def expected_of(value: Any) -> Any:
    """The list that an object of instances stands for."""
    has_instances = isinstance(value, dict) and list(value) == ["instances"] and isinstance(value["instances"], list)
    return value["instances"] if has_instances else value


@given(JSON_VALUES)
@example(BESIDE_A_FLOAT)
def test_json_decodes_as_pythons_own_does(value: object) -> None:
    """What is decoded, arrays taken for lists, is what Python's json makes of the same text."""
    body = json.dumps(value).encode()
    decoded: Any = decode(body, JSON)
    assert stands_for(decoded, expected_of(value))


def test_a_number_of_a_million_digits_is_a_number() -> None:
    """Digits without end behind the point are read, and rounded once."""
    assert array_of(b"[0." + b"3" * 1_000_000 + b"]", JSON).tolist() == [1 / 3]


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_garbage_decodes_or_is_400(body: bytes) -> None:
    """No bytes do anything but decode, or raise ClientError with status 400."""
    assert status_of(body, JSON) in (200, 400)
    assert status_of(b'{"instances":' + body + b"}", JSON) in (200, 400)


@given(st.text(st.sampled_from("0123456789.,-+eE[]{}\"':ntf \n\r_\\"), max_size=40))
@settings(max_examples=300)
def test_near_misses_decode_or_are_400(body: str) -> None:
    """Text that is almost JSON decodes, or raises ClientError with status 400."""
    assert status_of(body.encode(), JSON) in (200, 400)


# -- With and without simdjson -----------------------------------------------------------------------------------------


def same(body: bytes) -> tuple[Any, ...]:
    """What comes of a body with simdjson, which must be what comes of it without."""
    fast = outcome(body, JSON, fast=True)
    assert fast == outcome(body, JSON, fast=False)
    return fast


# What simdjson and orjson may see differently, in a list each.
ODD = [
    *("0", "-0", "-0.0", "00", "01", "-01", "+1", "1.", ".5", "-.5", "1e5", "1E+5", "1e-5", "1e", "-", "--1", "0x10"),
    *("1e308", "1e309", "-1e400", "1e-400", "-1e-400", "5e-324", "2.4703282292062328e-324", "2.2250738585072011e-308"),
    *("9007199254740993", "9007199254740993.0", "9223372036854775807", "-9223372036854775808", "9223372036854775808"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809", "1" * 100, "1" * 310, "0." + "3" * 2000),
    *("nan", "NaN", "inf", "Infinity", "-Infinity", "null", "true", '"1"', "{}", "[]", "[1]", "", " ", "\t1", "1\r\n"),
    *("\x0b1", "\x0c1", "\xa01", "\ufeff1", "1\0", "\0", "1 2", "1_0", "1,", ",1", "1]", "[1", "\x85", "\u2028", "१"),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "form", ["[%s]", "[%s,2]", "[1.5,%s]", "[[1,%s],[3,4]]", "[[%s],[2]]", " [ %s ] ", "%s", "[%s]x"]
)
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_odd_numbers_are_the_same_with_simdjson(odd: str, form: str, prefix: str) -> None:
    """Numbers at the edge of what there is, and what only resembles numbers, come to the same with simdjson."""
    body = form.replace("%s", odd)
    same((prefix + body).encode())
    same(f'{{"instances": {body}}}'.encode())


@pytest.mark.parametrize(
    "text",
    [
        "[[1,2],[3]]",
        "[1,[2]]",
        "[[1],2]",
        "[[1,[2]]]",
        "[[1,[2]],[3,4]]",
        "[[1,2],[3,[4]]]",
        "[[[1]],[2]]",
        "[[1],[[2]]]",
        "[[],[1]]",
        "[[1],[]]",
        "[[1,2],[]]",
        "[[],[]]",
        "[[[],[]],[[],[]]]",
        "[[[]],[]]",
        "[]",
        "[ ]",
        "[[[1,2],[3,4]],[[5,6],[7,8]]]",
        "[[[1,2],[3,4]],[[5,6],[7]]]",
        "[[[1,2]],[[5,6],[7,8]]]",
        "[" * 33 + "1" + "]" * 33,
        "[" * 65 + "1.5" + "]" * 65,
        "[" * 500 + "1.5" + "]" * 500,
        "[" * 2000 + "1.5" + "]" * 2000,
        "[" * 2000,
        "[1]]",
        "[[1]",
    ],
)
def test_shapes_are_the_same_with_simdjson(text: str) -> None:
    """Lists that are nested, empty, ragged, or not closed come to the same with simdjson."""
    same(text.encode())
    same(f'{{"instances": {text}}}'.encode())


NUMBERS = FLOATS.map(repr) | st.integers(-(2**70), 2**70).map(str) | st.sampled_from(ODD)


@given(st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=4).map(lambda each: f"[{','.join(each)}]")))
@settings(max_examples=500)
def test_lists_are_the_same_with_simdjson(text: str) -> None:
    """Lists of numbers, however nested, come to the same with simdjson, to the last bit."""
    same(text.encode())


@given(st.lists(st.lists(FLOATS | INT64, min_size=3, max_size=3), min_size=1))
def test_tables_are_the_same_with_simdjson(rows: list[list[float]]) -> None:
    """Tables of numbers are arrays with and without simdjson, to the last bit."""
    assert same(json.dumps(rows).encode())[1] == (len(rows), 3)


@given(st.text(st.sampled_from("0123456789.,-+eE[] \n\r"), max_size=40))
@settings(max_examples=500)
def test_near_misses_are_the_same_with_simdjson(body: str) -> None:
    """What is almost a list of numbers comes to the same with simdjson."""
    same(f"[{body}]".encode())


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_garbage_is_the_same_with_simdjson(body: bytes) -> None:
    """Whatever bytes stand between brackets come to the same with simdjson."""
    same(b"[" + body + b"]")


@pytest.mark.parametrize(("dtype", "count"), [(np.int64, 9_000), (np.float64, 9_000), (np.float64, 600_000)])
def test_simdjson_reads_what_is_long(dtype: Any, count: int) -> None:
    """Long lists of numbers are read by simdjson, integers as int64, the result is written to, short ones are not."""
    text = encode(np.arange(count).reshape(-1, 3).astype(dtype), JSON)[0]
    array = json_lists.read_numbers(text, dtype)
    assert array is not None
    assert (array.dtype, array.shape) == (dtype, (count // 3, 3))
    assert array.flags.owndata
    assert array.ravel().tolist() == list(range(count))
    assert json_lists.read_numbers(b"[1, 2]", dtype) is None


def test_simdjson_that_is_busy_is_not_waited_for() -> None:
    """While somebody else holds the parser a body is read without it."""
    text = encode(np.arange(9_000.0), JSON)[0]
    held = json_lists._kept_parser().parse(b"[1]")
    assert json_lists.read_numbers(text, np.float64) is None
    assert array_of(text, JSON).tolist() == list(range(9_000))
    del held
    assert json_lists.read_numbers(text, np.float64) is not None


WITHOUT_SIMDJSON = """
import sys
from sagemaker_inference_lite.codecs import decode
assert not {"simdjson", "csimdjson", "pyarrow"} & set(sys.modules)
decode(b"[1, 2]", "application/json")
decode(b"1, 2", "text/csv")
assert not {"simdjson", "csimdjson", "pyarrow"} & set(sys.modules)
sys.modules["simdjson"] = None
for last in (2, 2.5):
    array = decode(repr([[1] * 10_000 + [last]] * 2).encode(), "application/json")
    assert array.shape == (2, 10_001) and array[1, -1] == last
    assert decode(b"1," * 10_000 + b"2", "text/csv").shape == (1, 10_001)
"""


def test_nothing_needs_simdjson() -> None:
    """It is imported by the first long body and not before, and where it is not installed all else is as it was."""
    assert subprocess.run([sys.executable, "-c", WITHOUT_SIMDJSON], timeout=60).returncode == 0
