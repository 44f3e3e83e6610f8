# SPDX-License-Identifier: Apache-2.0
"""Which type a request's body has, by a file's name or by what was typed."""

from __future__ import annotations

import gc

import pytest

from sagemaker_inference_lite.local import request_data


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rows.csv", "text/csv"),
        ("rows.JSON", "application/json"),
        ("rows.jsonl", "application/jsonlines"),
        ("x.npy", "application/x-npy"),
        ("x.npz", "application/x-npz"),
        ("x.parquet", "application/vnd.apache.parquet"),
        ("x.arrow", "application/vnd.apache.arrow.stream"),
        ("x.png", "image/png"),
        ("x.jpg", "image/jpeg"),
        ("x.txt", "text/plain"),
        ("x", "application/octet-stream"),
        ("x.tar.gz", "application/octet-stream"),
    ],
)
def test_a_file_s_name_says_its_type(name: str, expected: str) -> None:
    """Each type that the codecs know has a name that says it; any other is bytes."""
    assert request_data.type_of_file(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[1, 2]]", "application/json"),
        ('{"a": 1}', "application/json"),
        ("5", "application/json"),
        ("1,2\n3,4\n", "text/csv"),
        ("a,b", "text/csv"),
        ("good morning", "text/plain"),
        ("[" * 100_000, "text/plain"),
    ],
)
def test_what_was_typed_says_its_type(text: str, expected: str) -> None:
    """JSON where it is that, else CSV where it has commas, else text."""
    # What other tests have left would be finalized at the depth of recursion that the last of these comes to.
    gc.collect()
    assert request_data.type_of_text(text) == expected
    assert request_data.type_of_bytes(text.encode()) == expected


def test_bytes_say_their_type() -> None:
    """What is no text is an array where it begins as one, else bytes."""
    assert request_data.type_of_bytes(b"\x93NUMPY\x01\x00") == "application/x-npy"
    assert request_data.type_of_bytes(b"\xff\xfe") == "application/octet-stream"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [("application/json", True), ("text/csv; charset=utf-8", True), ("image/svg+xml", True), ("image/png", False)],
)
def test_what_a_terminal_can_show(content_type: str, expected: bool) -> None:
    """Text of any kind, and nothing else."""
    assert request_data.is_text(content_type) is expected
