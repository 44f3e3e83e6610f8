# SPDX-License-Identifier: Apache-2.0
"""JSON laid out for a person."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.local.pretty_json import pretty

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.integers(1, 60))
def test_nothing_changes_but_the_space(value: Any, width: int) -> None:
    """What was laid out is what it was."""
    assert json.loads(pretty(json.dumps(value), width)) == value


def test_what_fits_stands_on_a_line() -> None:
    """What is nested is broken into lines only where it does not fit, and its rows stay whole."""
    assert pretty("[[1,2],[3,4]]") == "[[1, 2], [3, 4]]"
    assert (
        pretty('{"rows":[[1,2],[3,4]],"of":"é"}', 20) == '{\n  "rows": [\n    [1, 2],\n    [3, 4]\n  ],\n  "of": "é"\n}'
    )


def test_numbers_stay_as_they_were_written() -> None:
    """No digit is lost or gained, and what is no JSON stays as it is."""
    assert pretty("[1.10, 1e400, 123456789012345678901234567890, -0.0]") == (
        "[1.10, 1e400, 123456789012345678901234567890, -0.0]"
    )
    assert pretty("no JSON") == "no JSON"
    assert pretty("[" * 100_000) == "[" * 100_000
