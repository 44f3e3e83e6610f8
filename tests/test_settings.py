# SPDX-License-Identifier: Apache-2.0
"""The environment's way into Settings, and the tables made from the declarations."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_inference_lite.errors import SettingsError
from sagemaker_inference_lite.settings import AccessLog, Row, Settings, listing, markdown_table, warnings_for

TIMEOUT = "SAGEMAKER_MODEL_SERVER_TIMEOUT"
TIMEOUT_SECONDS = "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"

DEFAULTS: dict[str, Any] = {
    "multi_model": False,
    "bind_to_port": 8080,
    "safe_port_range": None,
    "base_dir": Path("/opt/ml"),
    "program": "inference.py",
    "handler": None,
    "model_server_workers": None,
    "model_server_timeout": 60,
    "startup_timeout": 600,
    "model_server_vmargs": (),
    "max_payload_in_mb": 25,
    "default_invocations_accept": "application/json",
    "container_log_level": logging.INFO,
    "model_server_access_log": AccessLog.ERRORS,
    "batch": False,
    "batch_strategy": None,
    "max_concurrent_transforms": None,
    "model_server_preload": (),
    "model_server_share_imports": True,
    "model_server_share_model": False,
    "model_server_job_queue_size": 100,
    "model_server_drain_seconds": 25,
    "allow_model_download": False,
    "install_requirements": None,
    "expose_tracebacks": False,
}

READINGS = [
    ("multi_model", "true", True),
    ("multi_model", "YES", True),
    ("multi_model", "off", False),
    ("batch", "1", True),
    ("allow_model_download", "On", True),
    ("expose_tracebacks", "0", False),
    ("install_requirements", "true", True),
    ("install_requirements", "no", False),
    ("bind_to_port", "1", 1),
    ("bind_to_port", "32766", 32766),
    ("bind_to_port", " 9000 ", 9000),
    ("safe_port_range", "25000-25999", (25000, 25999)),
    ("safe_port_range", "25000 - 25000", (25000, 25000)),
    ("base_dir", "/srv/models", Path("/srv/models")),
    ("program", "serve.py", "serve.py"),
    ("handler", "/code/handler.py:handle", "/code/handler.py:handle"),
    ("model_server_workers", "4", 4),
    ("startup_timeout", "3600", 3600),
    ("model_server_vmargs", "-Xmx1g '-Da=b c'", ("-Xmx1g", "-Da=b c")),
    ("max_payload_in_mb", "100", 100),
    ("default_invocations_accept", "text/csv; charset=utf-8", "text/csv; charset=utf-8"),
    ("container_log_level", "warning", logging.WARNING),
    ("container_log_level", "10", logging.DEBUG),
    ("model_server_access_log", "ALL", AccessLog.ALL),
    ("model_server_access_log", "none", AccessLog.NONE),
    ("batch_strategy", "MULTI_RECORD", "MULTI_RECORD"),
    ("batch_strategy", "single_record", "SINGLE_RECORD"),
    ("max_concurrent_transforms", "8", 8),
    ("model_server_preload", "numpy, sklearn.linear_model", ("numpy", "sklearn.linear_model")),
    ("model_server_job_queue_size", "1", 1),
    ("model_server_drain_seconds", "0", 0),
]

MISTAKES = [
    ("MULTI_MODEL", "maybe", "expected true or false (or 1, 0, yes, no, on, off)"),
    ("BIND_TO_PORT", "0", "expected a whole number from 1 to 32766"),
    ("BIND_TO_PORT", "32767", "expected a whole number from 1 to 32766"),
    ("BIND_TO_PORT", "8_080", "expected a whole number from 1 to 32766"),
    ("BIND_TO_PORT", "\u0668\u0660", "expected a whole number from 1 to 32766"),
    ("SAFE_PORT_RANGE", "25999-25000", "expected two ports such as 25000-25999, the lower one first"),
    ("SAFE_PORT_RANGE", "25000", "expected two ports such as 25000-25999, the lower one first"),
    ("SAFE_PORT_RANGE", "1-65536", "expected two ports such as 25000-25999, the lower one first"),
    ("BASE_DIR", "opt/ml", "expected an absolute path"),
    ("MODEL_SERVER_WORKERS", "two", "expected a whole number >= 1"),
    ("MODEL_SERVER_WORKERS", "0", "expected a whole number >= 1"),
    ("MODEL_SERVER_WORKERS", "2147483648", "expected a whole number from 1 to 2147483647"),
    ("MODEL_SERVER_TIMEOUT", "1.5", "expected a whole number from 1 to 86400"),
    ("STARTUP_TIMEOUT", "9" * 5000, "expected a whole number from 1 to 86400"),
    ("MODEL_SERVER_VMARGS", "-Da='b", "expected words as in a shell (No closing quotation)"),
    ("MAX_PAYLOAD_IN_MB", "2048", "expected a whole number from 0 to 2047"),
    ("DEFAULT_INVOCATIONS_ACCEPT", "json", "expected a media type such as application/json"),
    ("DEFAULT_INVOCATIONS_ACCEPT", "a/b\r\nx: y", "expected a media type such as application/json"),
    ("CONTAINER_LOG_LEVEL", "LOUD", "expected DEBUG, INFO, WARNING, ERROR, CRITICAL or a whole number from 0 to 50"),
    ("MODEL_SERVER_ACCESS_LOG", "true", "expected errors, all or none"),
    ("BATCH_STRATEGY", "ALL", "expected SINGLE_RECORD or MULTI_RECORD"),
    ("MAX_CONCURRENT_TRANSFORMS", "-1", "expected a whole number >= 0"),
    ("MODEL_SERVER_PRELOAD", "numpy,2x", "expected dotted module names, separated by commas; '2x' is none"),
    ("MODEL_SERVER_PRELOAD", "numpy,", "expected dotted module names, separated by commas; '' is none"),
    ("MODEL_SERVER_DRAIN_SECONDS", "28", "expected a whole number from 0 to 27"),
]


def variable(field_name: str) -> str:
    """The variable that sets a field."""
    return "SAGEMAKER_" + field_name.upper()


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    """What SettingsError says of an environment that must not be accepted."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    return caught.value.problems


def test_defaults() -> None:
    """An empty environment gives the documented defaults, and there is no field beside the documented ones."""
    assert dataclasses.asdict(Settings.from_environ({})) == DEFAULTS


def test_constructing_equals_reading() -> None:
    """Settings() is what an empty environment gives."""
    assert Settings() == Settings.from_environ({})


def test_frozen() -> None:
    """Settings cannot be changed once they are made."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().program = "other.py"  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(("field_name", "text", "value"), READINGS)
def test_reading(field_name: str, text: str, value: object) -> None:
    """A variable sets the field that is named by its words in lower case."""
    assert getattr(Settings.from_environ({variable(field_name): text}), field_name) == value


@pytest.mark.parametrize(("words", "text", "expected"), MISTAKES)
def test_mistake(words: str, text: str, expected: str) -> None:
    """A value that cannot be used is refused in a sentence that names variable, value and what was expected."""
    (problem,) = problems_of({f"SAGEMAKER_{words}": text})
    assert problem.startswith(f"SAGEMAKER_{words}=")
    assert problem.endswith(f": {expected}")
    assert len(text) > 100 or repr(text) in problem


def test_all_mistakes_together() -> None:
    """All mistakes are reported at once, each in its own sentence."""
    problems = problems_of({"SAGEMAKER_BIND_TO_PORT": "x", "SAGEMAKER_BATCH": "y", "SAGEMAKER_BASE_DIR": "z"})
    assert [problem.split("=")[0] for problem in problems] == [
        "SAGEMAKER_BIND_TO_PORT",
        "SAGEMAKER_BASE_DIR",
        "SAGEMAKER_BATCH",
    ]


def test_long_value_is_shortened() -> None:
    """A sentence quotes no more of a long value than can be read."""
    (problem,) = problems_of({"SAGEMAKER_BIND_TO_PORT": "x" * 10_000})
    assert len(problem) < 250


@pytest.mark.parametrize("field_name", DEFAULTS)
def test_empty_is_unset(field_name: str) -> None:
    """An empty or blank value means the default, for every variable."""
    assert Settings.from_environ({variable(field_name): ""}) == Settings()
    assert Settings.from_environ({variable(field_name): "  "}) == Settings()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({TIMEOUT: "70"}, 70),
        ({TIMEOUT_SECONDS: "80"}, 80),
        ({TIMEOUT: "70", TIMEOUT_SECONDS: "80"}, 80),
        ({TIMEOUT: "70", TIMEOUT_SECONDS: ""}, 70),
    ],
)
def test_two_names_of_the_timeout(environ: dict[str, str], seconds: int) -> None:
    """Both names of a request's limit set it, in seconds; the one that says so wins."""
    assert Settings.from_environ(environ).model_server_timeout == seconds


def test_a_losing_name_must_be_readable() -> None:
    """A value that cannot be read is a mistake under a name that loses as well."""
    assert problems_of({TIMEOUT: "soon", TIMEOUT_SECONDS: "80"})[0].startswith(f"{TIMEOUT}='soon'")


def test_payload_zero_is_the_largest() -> None:
    """Batch transform's 0 for chunked bodies is the most that the front end's Java int can count in bytes."""
    settings = Settings.from_environ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"})
    assert settings.max_payload_in_mb == 2047
    assert settings.max_payload_bytes < 2**31


def test_transforms_zero_is_unset() -> None:
    """A transform job's 0 concurrent transforms means the same as not saying any."""
    assert Settings.from_environ({"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "0"}).max_concurrent_transforms is None


def test_derived_values() -> None:
    """Directories and bytes follow from the variables."""
    settings = Settings.from_environ({"SAGEMAKER_BASE_DIR": "/x", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2"})
    assert settings.model_dir == Path("/x/model")
    assert settings.models_dir == Path("/x/models")
    assert settings.max_payload_bytes == 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("port", "allowed"), [(24999, False), (25000, True), (25999, True), (26000, False), (8080, True), (8081, False)]
)
def test_safe_port_range(port: int, allowed: bool) -> None:
    """The range limits all ports but the one that the server binds, as the platform injects it beside 8080."""
    assert Settings.from_environ({"SAGEMAKER_SAFE_PORT_RANGE": "25000-25999"}).allows_port(port) is allowed


def test_any_port_without_a_range() -> None:
    """Without a range every port may be used."""
    assert Settings().allows_port(1)


@given(st.dictionaries(st.sampled_from([*map(variable, DEFAULTS), TIMEOUT_SECONDS]), st.text(max_size=40)))
def test_no_text_ends_in_another_error(environ: dict[str, str]) -> None:
    """Whatever the variables hold, the result is Settings or a SettingsError with a sentence for each mistake."""
    problems: tuple[str, ...] = ()
    try:
        Settings.from_environ(environ)
    except SettingsError as error:
        problems = error.problems
    assert {problem.split("=")[0] for problem in problems} <= set(environ)


def test_listing_names_the_source() -> None:
    """The listing holds every setting with the value in force and the variable that set it."""
    rows = {row.name: row for row in listing({TIMEOUT: "70", TIMEOUT_SECONDS: "80", "SAGEMAKER_BATCH": ""})}
    assert list(rows) == [variable(name) for name in DEFAULTS]
    assert rows[TIMEOUT][1:4] == ("80", TIMEOUT_SECONDS, "seconds")
    assert rows["SAGEMAKER_BATCH"][1:4] == ("false", "default", "")


def test_listing_refuses_mistakes() -> None:
    """A listing of an environment with mistakes names them instead."""
    with pytest.raises(SettingsError, match="SAGEMAKER_BATCH='x'"):
        listing({"SAGEMAKER_BATCH": "x"})


@pytest.mark.parametrize(("field_name", "text", "value"), READINGS)
def test_listing_can_be_read_again(field_name: str, text: str, value: object) -> None:
    """The value that the listing shows, put into the environment, means the same again."""
    (row,) = (row for row in listing({variable(field_name): text}) if row.name == variable(field_name))
    assert getattr(Settings.from_environ({row.name: row.value}), field_name) == value


def test_every_row_is_explained() -> None:
    """Every setting says what it means, and every number of seconds or megabytes says that it counts these."""
    rows = listing({})
    assert all(row.help.endswith(".") for row in rows)
    timed = [row for row in rows if "TIMEOUT" in row.name or "SECONDS" in row.name]
    assert [row.unit for row in timed] == ["seconds"] * 3
    assert [row.unit for row in rows if row.name.endswith("_MB")] == ["MB"]


def test_markdown_table() -> None:
    """The README's table has a row for every setting, and as many cells in each as in its head."""
    head, rule, *rows = markdown_table().splitlines()
    assert len(rows) == len(DEFAULTS)
    assert {line.count(" | ") for line in (head, *rows)} == {4}
    assert rule == "|---|---|---|---|---|"


def test_rows_are_plain() -> None:
    """No text of a row holds what would break a table apart."""
    for row in listing({}):
        assert isinstance(row, Row)
        assert not any(mark in cell for cell in row for mark in "|\n")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKER", "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECOND", TIMEOUT_SECONDS),
        ("SAGEMAKER_MULTIMODEL", "SAGEMAKER_MULTI_MODEL"),
        ("SAGEMAKER_PROGRAMM", "SAGEMAKER_PROGRAM"),
    ],
)
def test_warning_for_a_misspelling(name: str, meant: str) -> None:
    """A name that is nearly one of ours is warned of, with the name that was meant."""
    assert warnings_for({name: "1"}) == [f"{name} is not a setting and is ignored; did you mean {meant}?"]


def test_warning_for_an_unknown_name_of_ours() -> None:
    """A name that begins as ours do is warned of even where none is near."""
    assert warnings_for({"SAGEMAKER_MODEL_SERVER_COLOUR": "1"}) == [
        "SAGEMAKER_MODEL_SERVER_COLOUR is not a setting and is ignored"
    ]


@pytest.mark.parametrize(
    "name",
    [
        *map(variable, DEFAULTS),
        TIMEOUT_SECONDS,
        "SAGEMAKER_REGION",
        "SAGEMAKER_SUBMIT_DIRECTORY",
        "SAGEMAKER_NUM_MODEL_WORKERS",
        "SAGEMAKER_MAX_REQUEST_SIZE",
        "SAGEMAKER_TS_BATCH_SIZE",
        "SAGEMAKER_TRITON_THREAD_COUNT",
        "SAGEMAKER_SOMETHING_ELSE",
        "MODEL_SERVER_WORKERS",
        "PATH",
    ],
)
def test_no_warning(name: str) -> None:
    """Our own names, the platform's, and names unlike ours are not warned of, nor is any of them a mistake."""
    assert warnings_for({name: "1"}) == []
