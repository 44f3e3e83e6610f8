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

from sagemaker_inference_lite.errors import SettingsError
from sagemaker_inference_lite.mms.command import find_model_server_jar
from sagemaker_inference_lite.mms.properties import (
    OVERRIDABLE,
    OVERRULED_BY,
    WITHOUT_EFFECT,
    backstop_seconds,
    environment_of_front_end,
    environment_of_workers,
    overridden,
    parse_address,
    read_settings,
    render,
    server_properties,
    warnings_for,
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


def constants_of_the_front_end() -> set[str]:
    """The texts of the class that reads the installed front end's configuration (JVMS 4.4)."""
    with zipfile.ZipFile(find_model_server_jar()) as jar:
        code = jar.read("com/amazonaws/ml/mms/util/ConfigManager.class")
    sizes = {7: 3, 8: 3, 15: 4, 16: 3, 19: 3, 20: 3, 5: 9, 6: 9}
    texts, at, left = set(), 10, int.from_bytes(code[8:10], "big") - 1
    while left > 0:
        left -= 2 if code[at] in (5, 6) else 1
        size = 3 + int.from_bytes(code[at + 1 : at + 3], "big") if code[at] == 1 else sizes.get(code[at], 5)
        texts |= {code[at + 3 : at + size].decode("latin-1")} if code[at] == 1 else set()
        at += size
    return texts


def known() -> set[str]:
    """The variables that are in force, and those that are named because they are not."""
    names = {"MMS_" + key.upper() for key in OVERRIDABLE}
    limit = {name for names in OVERRULED_BY.values() for name in names}
    assert not names & limit
    assert not (names | limit) & set(WITHOUT_EFFECT)
    return names | limit | set(WITHOUT_EFFECT)


def test_every_variable_of_the_front_end_is_known() -> None:
    """Each variable that it reads, and each property that could be taken for one, is in force or is warned of."""
    texts = constants_of_the_front_end()
    read = {text for text in texts if re.fullmatch("MMS(_[A-Z]+)+", text)} - {"MMS_METRICS"}  # which names a logger
    properties = {"MMS_" + text.upper() for text in texts if re.fullmatch("[a-z]+(_[a-z]+)+|debug|keystore", text)}
    assert len(read) >= 30
    assert read | properties <= known()
    # Two are options of its command, which it hands to Java.
    assert known() - properties - read == {"MODEL_SERVER_HOME", "MMS_VMARGS", "MMS_PLUGINS_PATH"}


@pytest.mark.parametrize("name", sorted(known()))
def test_each_variable_is_in_force_or_named(name: str) -> None:
    """One that is in force is passed on to the front end and warned of nowhere; one that is not is neither."""
    environ = {"PATH": "/bin", "LANG": "C.UTF-8", name: "7"}
    warnings = warnings_for(environ)
    assert len(warnings) == (name in WITHOUT_EFFECT)
    assert not warnings or warnings[0].startswith(f"{name}='7' has no effect: ")
    is_passed_on = name[4:].lower() in OVERRIDABLE
    expected = environ if is_passed_on else {"PATH": "/bin", "LANG": "C.UTF-8"}
    assert environment_of_front_end(environ) == expected
    assert overridden({}, environ) == ({name[4:].lower(): "7"} if is_passed_on else {})


@pytest.mark.parametrize(
    ("environ", "is_changed"),
    [
        ({}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.utf8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, False),
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, True),
    ],
)
def test_names_of_files_are_utf_8_for_java(environ: dict[str, str], is_changed: bool) -> None:
    """Where the locale is another, Java could not open a model whose path is not ASCII."""
    changed = {**environ, "LC_ALL": "C.UTF-8"}
    assert environment_of_front_end(environ) == (changed if is_changed else environ)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("MMS_MAX_REQEST_SIZE", "and is ignored; did you mean MMS_MAX_REQUEST_SIZE?"),
        ("MMS_SOMETHING_ELSE", "MMS_SOMETHING_ELSE is not a variable of Multi Model Server and is ignored"),
    ],
)
def test_what_looks_like_a_variable_and_is_none(name: str, says: str) -> None:
    """A misspelt variable is named, with the one that is near."""
    (warning,) = warnings_for({name: "1", "PATH": "/bin"})
    assert says in warning


LIMIT, LIMIT_SECONDS = "MMS_DEFAULT_RESPONSE_TIMEOUT", "MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 60),
        ({LIMIT: "900"}, 900),
        ({LIMIT_SECONDS: "5"}, 5),
        ({LIMIT: "900", LIMIT_SECONDS: "5"}, 5),
        ({LIMIT: "900", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "7"}, 900),
        ({LIMIT: "900", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "7"}, 900),
        ({LIMIT: " ", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "7"}, 7),
    ],
)
def test_the_limit_of_a_request(environ: dict[str, str], seconds: int) -> None:
    """MMS's two variables are in seconds and overrule ours, for workers too; the front end's own limit is not less."""
    settings = read_settings(environ)
    assert settings.model_server_timeout == seconds
    assert Settings.from_environ(environment_of_workers(environ, settings)) == settings
    written = server_properties(settings, HANDLER, 1, 1, DIRECTORY)
    assert overridden(written, environ)["default_response_timeout_seconds"] == str(backstop_seconds(settings))


def test_all_mistakes_are_named_together() -> None:
    """Values that cannot be used are named all at once, whoever the variable belongs to."""
    environ = {
        "SAGEMAKER_BIND_TO_PORT": "0",
        LIMIT: "5 minutes",
        LIMIT_SECONDS: "-1",
        "MMS_JOB_QUEUE_SIZE": "many",
        "MMS_MAX_REQUEST_SIZE": "2147483648",
        "MMS_NUMBER_OF_GPU": "",
        "MMS_MANAGEMENT_ADDRESS": "8081",
        "MMS_BLACKLIST_ENV_VARS": "(",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    assert [problem.partition("=")[0] for problem in caught.value.problems] == [
        "SAGEMAKER_BIND_TO_PORT",
        LIMIT_SECONDS,
        LIMIT,
        "MMS_BLACKLIST_ENV_VARS",
        "MMS_JOB_QUEUE_SIZE",
        "MMS_MANAGEMENT_ADDRESS",
        "MMS_MAX_REQUEST_SIZE",
        "MMS_NUMBER_OF_GPU",
    ]
    assert "MMS_MAX_REQUEST_SIZE='2147483648': expected a whole number from 1 to 2147483647" in str(caught.value)
    assert f"{LIMIT}='5 minutes': expected a whole number from 1 to 86400" in str(caught.value)


def test_mistakes_in_variables_of_mms_alone_are_named() -> None:
    """A value of MMS's that cannot be used is a mistake like any other."""
    with pytest.raises(SettingsError, match="1 setting cannot be used") as caught:
        read_settings({"MMS_INFERENCE_ADDRESS": "localhost"})
    assert "MMS_INFERENCE_ADDRESS='localhost': expected http://HOST:PORT" in str(caught.value)


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
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)
    with pytest.raises(SettingsError):
        read_settings({"MMS_INFERENCE_ADDRESS": text})


@pytest.mark.parametrize("multi_model", [True, False])
def test_our_own_addresses_can_be_read(multi_model: bool) -> None:
    """What is written is in the notation that is read."""
    properties = properties_of(multi_model=multi_model)
    assert parse_address(properties["inference_address"]) == ("0.0.0.0", 8080)
    assert parse_address(properties["management_address"])
