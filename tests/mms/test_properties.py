# SPDX-License-Identifier: Apache-2.0
"""The front end's configuration: what is asked of it, and that it reads what was written."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import PreflightError
from sagemaker_inference_lite.mms.command import find_model_server_jar
from sagemaker_inference_lite.mms.properties import (
    OVERRIDABLE,
    backstop_seconds,
    overridden,
    parse_address,
    render,
    server_properties,
)
from sagemaker_inference_lite.settings import Settings

DIRECTORY = Path("/tmp/private")
HANDLER = "/opt/ml/code/handler.py:handle"


def load(text: str) -> dict[str, str]:
    """What java.util.Properties.load() reads from a text."""
    lines = re.split(r"\r\n|\r|\n", text)
    properties = {}
    while lines:
        line = lines.pop(0).lstrip(" \t\f")
        while _continues(line) and lines:
            line = line[:-1] + lines.pop(0).lstrip(" \t\f")
        if line and line[0] not in "#!":
            key, value = _divide(line)
            properties[_unescape(key)] = _unescape(value)
    return properties


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _divide(line: str) -> tuple[str, str]:
    found = re.fullmatch(r"((?:\\.|[^\\=: \t\f])*)(?:[ \t\f]*[=:]?[ \t\f]*)(.*)", line, re.DOTALL)
    assert found is not None
    return found[1], found[2]


def _unescape(text: str) -> str:
    units = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _unescape_one, text, flags=re.DOTALL)
    # Java's characters are the units of UTF-16.
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be")


def _unescape_one(found: re.Match[str]) -> str:
    escape = found[1]
    return (
        chr(int(escape[1:], 16))
        if len(escape) == 5
        else {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(escape, escape)
    )


def properties_of(**fields: Any) -> dict[str, str]:
    """The properties for settings that differ from the default."""
    return server_properties(Settings(**fields), HANDLER, 3, 2, DIRECTORY)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_the_reader_of_these_tests() -> None:
    """The reader that stands in for Java's knows comments, separators, continued lines and escapes."""
    text = "# a=b\n! c\n\n  key : value\\\n   goes on\na\\=b=c\\u00e9\\td\nempty\n"
    assert load(text) == {"key": "valuegoes on", "a=b": "cé\td", "empty": ""}


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=5))
def test_what_is_written_is_read(properties: dict[str, str]) -> None:
    """Java reads exactly the keys and values that were written, whatever is in them."""
    assert load(render(properties)) == properties


@pytest.mark.parametrize(
    "value",
    ["", " ", " a", "a ", "a\\", "\\u0041", "a\nb=c", "#", "!", "a=b", "a:b", "/opt/m odel", "\t", "é", "\U0001f600"],
)
def test_awkward_values(value: str) -> None:
    """Nothing in a value ends it, begins another property, or is taken for an escape."""
    text = render({"key": value})
    assert load(text) == {"key": value}
    assert text.isascii()
    assert text.count("\n") == 1


def test_the_order_is_fixed() -> None:
    """The same properties give the same text, whatever order they came in."""
    assert render({"b": "2", "a": "1"}) == render({"a": "1", "b": "2"}) == "a=1\nb=2\n"


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_several_models_share_one_address() -> None:
    """With several models the platform loads them on the port that it also sends requests to."""
    properties = properties_of(multi_model=True, bind_to_port=9001)
    assert properties["inference_address"] == properties["management_address"] == "http://0.0.0.0:9001"
    assert "load_models" not in properties


def test_one_model_is_managed_by_nobody_outside() -> None:
    """With one model the management interface is a socket in the private directory, and no port at all."""
    properties = properties_of(bind_to_port=9001, base_dir=Path("/srv"))
    assert properties["inference_address"] == "http://0.0.0.0:9001"
    assert properties["management_address"] == "unix:/tmp/private/management.sock"
    assert properties["load_models"] == "model=/srv/model"


@pytest.mark.parametrize("multi_model", [True, False])
def test_every_limit_is_explicit(multi_model: bool) -> None:
    """No limit is left to the front end's own defaults: 6.5 MB of payload, two minutes, and so on."""
    properties = properties_of(multi_model=multi_model, max_payload_in_mb=7, model_server_job_queue_size=11)
    assert properties["max_request_size"] == properties["max_response_size"] == str(7 * 1024 * 1024)
    assert properties["job_queue_size"] == "11"
    assert properties["default_workers_per_model"] == "3"
    assert properties["default_response_timeout_seconds"] == str(backstop_seconds(Settings()))
    assert int(properties["unregister_model_timeout"]) > 0
    assert properties["default_service_handler"] == HANDLER


def test_what_the_front_end_does_itself_is_switched_off() -> None:
    """Decoding and loading are the workers' business, and metrics, which start a process each time, nobody's."""
    properties = properties_of()
    assert properties["decode_input_request"] == properties["preload_model"] == "false"
    assert int(properties["metric_time_interval"]) * 1000 < 2**31
    assert int(properties["metric_time_interval"]) > 20 * 24 * 3600
    assert properties["enable_envvars_config"] == "true"


@pytest.mark.parametrize("seconds", [1, 86400])
def test_the_backstop_is_behind_all_other_limits(seconds: int) -> None:
    """The front end's one time-out comes after three loads and a request, and fits into a Java int of milliseconds."""
    backstop = backstop_seconds(Settings(startup_timeout=seconds, model_server_timeout=seconds))
    assert backstop > 3 * seconds + seconds
    assert backstop * 1000 < 2**31


def test_largest_payload_is_a_java_int() -> None:
    """The largest payload that settings admit is a number that Java can read."""
    assert int(properties_of(max_payload_in_mb=2047)["max_request_size"]) < 2**31


# -- what the environment changes -------------------------------------------------------------------------------------


def test_variables_overrule() -> None:
    """MMS_ and a property's name in upper case overrules what was written; other variables change nothing."""
    environ = {"MMS_JOB_QUEUE_SIZE": "5", "MMS_METRIC_TIME_INTERVAL": "1", "JOB_QUEUE_SIZE": "6", "MMS_NOTHING": "x"}
    written = properties_of()
    assert overridden(written, environ) == {**written, "job_queue_size": "5"}
    assert overridden(written, {"MMS_KEYSTORE": "/k"})["keystore"] == "/k"
    assert overridden(written, {}) == written
    assert written["job_queue_size"] == "100"


def test_what_can_be_overruled_is_what_the_front_end_takes() -> None:
    """The installed front end reads exactly those variables from the environment."""
    with zipfile.ZipFile(find_model_server_jar()) as jar:
        code = jar.read("com/amazonaws/ml/mms/util/ConfigManager.class")
    names = set(re.findall(r"MMS_[A-Z_]+", code.decode("latin-1")))
    # Two that are no properties: where the file is, and the name of a logger.
    assert {"MMS_" + name.upper() for name in OVERRIDABLE} == names - {"MMS_CONFIG_FILE", "MMS_METRICS"}


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("HTTP://localhost:1", ("localhost", 1)),
        ("http://127.0.0.1", ("127.0.0.1", 80)),
        ("https://127.0.0.1", ("127.0.0.1", 443)),
        ("https://127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("http://127.0.0.1:32766", ("127.0.0.1", 32766)),
        ("unix:/run/server.sock", Path("/run/server.sock")),
    ],
)
def test_addresses(text: str, address: object) -> None:
    """An address is a host and a port, the scheme's own where none is named, or the path of a socket."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "localhost:8080",
        "ftp://localhost",
        "http://",
        "http://:8080",
        "http://a:b",
        "http://a:80/",
        "http://[::1]:80",
    ]
    + ["http://a:80\n", "unix:relative", "http://0.0.0.0:32767", "http://0.0.0.0:99999999999"],
)
def test_what_is_no_address_is_quoted(text: str) -> None:
    """What the front end would refuse is refused before it is started, and quoted."""
    with pytest.raises(PreflightError) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("multi_model", [True, False])
def test_our_own_addresses_can_be_read(multi_model: bool) -> None:
    """What is written is in the notation that is read."""
    properties = properties_of(multi_model=multi_model)
    assert parse_address(properties["inference_address"]) == ("0.0.0.0", 8080)
    assert parse_address(properties["management_address"])
