# SPDX-License-Identifier: Apache-2.0
"""The SAGEMAKER_* environment as one frozen object.

Each variable is declared once, as a field of `Settings`: its words in lower case are the field's name, and the
declaration holds what it accepts, its default, its unit and its help. The reading, the command's listing and the
README's table are all made from those declarations. Nothing here reads os.environ: the caller passes a mapping.
"""

from __future__ import annotations

import difflib
import logging
import re
import reprlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

from sagemaker_inference_lite.errors import SettingsError

T = TypeVar("T")

BatchStrategy = Literal["SINGLE_RECORD", "MULTI_RECORD"]


class AccessLog(Enum):
    """Which requests have a line in the log."""

    ERRORS = "errors"
    ALL = "all"
    NONE = "none"


PREFIX = "SAGEMAKER_"
BYTES_PER_MB = 1024 * 1024

# The engine holds its numbers in Java ints: a larger one would end it while it reads its configuration.
_JAVA_INT_MAX = 2**31 - 1
# The largest whole number of megabytes whose bytes such an int can hold.
_ENGINE_MAX_MB = _JAVA_INT_MAX // BYTES_PER_MB
# The engine refuses ports above this one (ConfigManager's connector, "port must be < 32767").
_ENGINE_MAX_PORT = 32766
# The platform kills a container 30 s after it asked it to stop, and everything must be gone within 28 s:
# one second at least is left to end the processes once the requests in flight are answered.
_MAX_DRAIN_SECONDS = 27
# The platform waits an hour at most, for a request as for a start. A day leaves room for everything else, and
# sums of such limits still fit a Java int.
_MAX_TIMEOUT_SECONDS = 24 * 60 * 60


# -- What a variable can hold ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind(Generic[T]):
    """How a variable's text becomes a value and back.

    Attributes:
        accepts: What it accepts, to be read after "expected".
        parse: Text to value. Raises ValueError; its message, if it has one, is said in place of `accepts`.
        show: A value as it would be written in the environment.
    """

    accepts: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str


_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _parse_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError from None


def _show_boolean(value: bool) -> str:
    return "true" if value else "false"


def _whole(low: int, high: int = _JAVA_INT_MAX) -> _Kind[int]:
    """Whole numbers from low to high; the bound that only Java sets is not named unless it is passed."""
    accepts = f"a whole number >= {low}" if high == _JAVA_INT_MAX else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        # int() alone would take 1_000 and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or int(text) < low:
            raise ValueError
        if int(text) > high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return _Kind(accepts, parse)


def _parse_payload_mb(text: str) -> int:
    return _whole(0, _ENGINE_MAX_MB).parse(text) or _ENGINE_MAX_MB


def _parse_port_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", text)
    if not found:
        raise ValueError
    low, high = int(found[1]), int(found[2])
    if not 1 <= low <= high <= 65535:
        raise ValueError
    return low, high


def _show_port_range(ports: tuple[int, int]) -> str:
    return "{}-{}".format(*ports)


def _parse_directory(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError
    return Path(text)


_LEVELS = {name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}


def _parse_log_level(text: str) -> int:
    level: int | None = _LEVELS.get(text.upper())
    return _whole(0, logging.CRITICAL).parse(text) if level is None else level


def _show_log_level(level: int) -> str:
    return next((name for name, value in _LEVELS.items() if value == level), str(level))


def _parse_words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"words as in a shell ({error})") from None


def _parse_modules(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"dotted module names, separated by commas; {name!r} is none")
    return names


def _parse_media_type(text: str) -> str:
    if not text.isprintable() or not re.match(r"[^\s/,;]+/[^\s/,;]+", text):
        raise ValueError
    return text


def _parse_batch_strategy(text: str) -> BatchStrategy:
    if text.upper() == "SINGLE_RECORD":
        return "SINGLE_RECORD"
    if text.upper() == "MULTI_RECORD":
        return "MULTI_RECORD"
    raise ValueError


def _parse_access_log(text: str) -> AccessLog:
    try:
        return AccessLog(text.lower())
    except ValueError:
        raise ValueError from None


def _show_access_log(value: AccessLog) -> str:
    return value.value


def _parse_transforms(text: str) -> int | None:
    return _whole(0).parse(text) or None


_TEXT = _Kind("text", str)
_BOOLEAN = _Kind("true or false (or 1, 0, yes, no, on, off)", _parse_boolean, _show_boolean)
_PORT_RANGE = _Kind("two ports such as 25000-25999, the lower one first", _parse_port_range, _show_port_range)
_DIRECTORY = _Kind("an absolute path", _parse_directory)
_LOG_LEVEL = _Kind(
    "DEBUG, INFO, WARNING, ERROR, CRITICAL or a whole number from 0 to 50", _parse_log_level, _show_log_level
)
_WORDS = _Kind("words as in a shell", _parse_words, shlex.join)
_MODULES = _Kind("dotted module names, separated by commas", _parse_modules, ",".join)
_MEDIA_TYPE = _Kind("a media type such as application/json", _parse_media_type)
_BATCH_STRATEGY = _Kind("SINGLE_RECORD or MULTI_RECORD", _parse_batch_strategy)
_ACCESS_LOG = _Kind("errors, all or none", _parse_access_log, _show_access_log)
_TIMEOUT = _whole(1, _MAX_TIMEOUT_SECONDS)
_PAYLOAD_MB = _Kind(f"a whole number from 0 to {_ENGINE_MAX_MB}", _parse_payload_mb)
# A transform job's own "0" means the same as leaving it out, so it is read as unset rather than refused.
_TRANSFORMS = _Kind("a whole number >= 0", _parse_transforms)


# -- The declarations --------------------------------------------------------------------------------------------------


def _setting(
    kind: _Kind[T], default: T, help_text: str, *, unit: str = "", overruled_by: str = "", absent: str = "none"
) -> T:
    """Declares a variable. `absent` is what tables show for a default of None; `overruled_by` is a second name."""
    metadata = {"kind": kind, "help": help_text, "unit": unit, "overruled_by": overruled_by, "absent": absent}
    return field(default=default, metadata=metadata)


def _optional(kind: _Kind[T], help_text: str, *, absent: str = "none") -> T | None:
    """Declares a variable that is None unless it is set."""
    # None is shown as `absent`, so the kind is never asked to show it.
    return _setting(cast("_Kind[T | None]", kind), None, help_text, absent=absent)


Overrules = Mapping[str, Sequence[str]]
_NOTHING: Overrules = {}


@dataclass(frozen=True)
class Settings:
    """What the environment asks for. Made by `from_environ`; a variable that is unset or empty has its default."""

    multi_model: bool = _setting(_BOOLEAN, False, "Serve any number of models that the platform loads and unloads.")
    bind_to_port: int = _setting(
        _whole(1, _ENGINE_MAX_PORT), 8080, "The port of all HTTP calls. SAGEMAKER_SAFE_PORT_RANGE does not limit it."
    )
    safe_port_range: tuple[int, int] | None = _optional(
        _PORT_RANGE, "The ports that anything beside the server may listen on; set by the platform.", absent="any"
    )
    base_dir: Path = _setting(_DIRECTORY, Path("/opt/ml"), "The directory that holds `model/` or `models/`.")
    program: str = _setting(
        _TEXT, "inference.py", "The file in the model's `code/` directory that holds its functions."
    )
    handler: str | None = _optional(
        _TEXT, "The handler service, where `start_model_server` is given none.", absent="the default handler service"
    )
    model_server_workers: int | None = _optional(
        _whole(1), "Workers per model. Automatic: one per CPU, or 1 with several models.", absent="automatic"
    )
    model_server_timeout: int = _setting(
        _TIMEOUT,
        60,
        "The longest that a request may take. The name with `_SECONDS` wins where both are set.",
        unit="seconds",
        overruled_by="SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    )
    startup_timeout: int = _setting(_TIMEOUT, 600, "The longest that loading a model may take.", unit="seconds")
    model_server_vmargs: tuple[str, ...] = _setting(_WORDS, (), "Further options of the Java virtual machine.")
    max_payload_in_mb: int = _setting(
        _PAYLOAD_MB,
        25,
        # With 0 batch transform announces bodies in chunks, of a length that nobody knows beforehand.
        f"The largest request or response. 0, which batch transform sets for chunked bodies, is {_ENGINE_MAX_MB}.",
        unit="MB",
    )
    default_invocations_accept: str = _setting(
        _MEDIA_TYPE, "application/json", "The response's type where a request asks for none, or for any."
    )
    container_log_level: int = _setting(_LOG_LEVEL, logging.INFO, "The least severe messages that are logged.")
    model_server_access_log: AccessLog = _setting(
        _ACCESS_LOG,
        AccessLog.ERRORS,
        "Which requests are logged: those answered with 400 and more, all, or none. Of `/ping` changed answers alone.",
    )
    batch: bool = _setting(_BOOLEAN, False, "This is a batch transform job; set by the platform.")
    batch_strategy: BatchStrategy | None = _optional(
        _BATCH_STRATEGY, "How a transform job fills its requests; set by the platform.", absent="not said"
    )
    max_concurrent_transforms: int | None = _setting(
        _TRANSFORMS,
        None,
        "How many requests a transform job sends at once, 0 being unset; set by the platform.",
        absent="not said",
    )
    model_server_preload: tuple[str, ...] = _setting(
        _MODULES, (), "Modules imported once, before the first model, for all workers to share."
    )
    model_server_share_imports: bool = _setting(
        _BOOLEAN,
        True,
        "With several models: import once, for all workers to share, what a first model had to import of the image.",
    )
    model_server_share_model: bool = _setting(
        _BOOLEAN,
        False,
        "With one model: load it once and fork the workers from there, so that they share its memory.",
    )
    model_server_job_queue_size: int = _setting(
        _whole(1), 100, "Requests that may wait for a model's workers before further ones are answered 503."
    )
    model_server_drain_seconds: int = _setting(
        _whole(0, _MAX_DRAIN_SECONDS),
        25,
        "How long requests in flight may take once the server is asked to stop.",
        unit="seconds",
    )
    allow_model_download: bool = _setting(_BOOLEAN, False, "Let the server fetch models from http and https URLs.")
    install_requirements: bool | None = _optional(
        _BOOLEAN,
        "Install what a model's `code/requirements.txt` asks for. Automatic: yes, or refuse it with several models.",
        absent="automatic",
    )
    expose_tracebacks: bool = _setting(_BOOLEAN, False, "Send tracebacks to callers. For development only.")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], overruled_by: Overrules = _NOTHING) -> Settings:
        """Reads all settings from a mapping such as os.environ.

        Args:
            environ: The environment. Names that are not settings are ignored; see `warnings_for`.
            overruled_by: Further variables that set one of ours, by our name for it, and win; the first of them first.

        Returns:
            The settings.

        Raises:
            SettingsError: One or more values cannot be used; it names them all.
        """
        further = tuple((name, tuple(others)) for name, others in overruled_by.items())
        wanted = {other for _, others in further for other in others}
        set_to = tuple((name, environ[name]) for name in environ if name.startswith(PREFIX) or name in wanted)
        return _read(set_to, further)

    @property
    def model_dir(self) -> Path:
        """Where the platform unpacks the one model of a single-model endpoint."""
        return self.base_dir / "model"

    @property
    def models_dir(self) -> Path:
        """Where the platform unpacks the models of a multi-model endpoint, one directory each."""
        return self.base_dir / "models"

    @property
    def max_payload_bytes(self) -> int:
        """The largest request or response, in bytes."""
        return self.max_payload_in_mb * BYTES_PER_MB

    def allows_port(self, port: int) -> bool:
        """Whether the platform lets something listen on a port.

        The platform injects SAGEMAKER_SAFE_PORT_RANGE on ordinary endpoints too, where the server itself listens on
        8080, outside of it. So the range limits only ports other than `bind_to_port`.
        """
        if self.safe_port_range is None or port == self.bind_to_port:
            return True
        low, high = self.safe_port_range
        return low <= port <= high


@lru_cache(maxsize=1)
def _read(set_to: tuple[tuple[str, str], ...], overruled_by: tuple[tuple[str, tuple[str, ...]], ...]) -> Settings:
    # Kept, because each worker reads what the zygote has read before it: that took 0.35 MB of memory of its own.
    environ, problems = dict(set_to), list[str]()
    variables = _with_names(dict(overruled_by))
    values = {variable.field_name: _value_of(variable, environ, problems) for variable in variables}
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


class _Variable(NamedTuple):
    """A declaration, read back from a field of `Settings`."""

    field_name: str
    names: tuple[str, ...]  # the one that wins first
    kind: _Kind[Any]
    default: Any
    unit: str
    help: str
    absent: str

    @property
    def name(self) -> str:
        return self.names[-1]

    def show(self, value: Any) -> str:
        return self.absent if value is None or value == () else self.kind.show(value)


def _declared() -> tuple[_Variable, ...]:
    variables = []
    for each in fields(Settings):
        about = each.metadata
        names = tuple(filter(None, (about["overruled_by"], PREFIX + each.name.upper())))
        variables.append(
            _Variable(each.name, names, about["kind"], each.default, about["unit"], about["help"], about["absent"])
        )
    return tuple(variables)


_VARIABLES = _declared()


def _with_names(overruled_by: Overrules) -> list[_Variable]:
    return [variable._replace(names=(*overruled_by.get(variable.name, ()), *variable.names)) for variable in _VARIABLES]


# -- Reading -----------------------------------------------------------------------------------------------------------


def _names_set(variable: _Variable, environ: Mapping[str, str]) -> list[str]:
    """The variable's names that are set to something, the winning one first."""
    return [name for name in variable.names if environ.get(name, "").strip()]


def _value_of(variable: _Variable, environ: Mapping[str, str], problems: list[str]) -> Any:
    """The value in force. What cannot be read is added to problems, under a name that loses as well."""
    values = []
    for name in _names_set(variable, environ):
        try:
            values.append(variable.kind.parse(environ[name].strip()))
        except ValueError as error:
            expected = str(error) or variable.kind.accepts
            problems.append(f"{name}={quoted(environ[name])}: expected {expected}")
    return values[0] if values else variable.default


def quoted(text: str) -> str:
    """A value as messages show it: quoted, and not at any length."""
    shortener = reprlib.Repr()
    shortener.maxstring = 120
    return shortener.repr(text)


# -- For people --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One setting as it is in force.

    Attributes:
        name: The variable.
        value: Its value, as it would be written in the environment.
        source: The variable that set it, or "default".
        unit: What a number counts, or "".
        help: One sentence or two.
    """

    name: str
    value: str
    source: str
    unit: str
    help: str


def listing(environ: Mapping[str, str], overruled_by: Overrules = _NOTHING) -> list[Row]:
    """Every setting with the value in force and where it came from.

    Args:
        environ: The environment.
        overruled_by: As for `Settings.from_environ`.

    Raises:
        SettingsError: One or more values cannot be used; it names them all.
    """
    settings = Settings.from_environ(environ, overruled_by)
    rows = []
    for variable in _with_names(overruled_by):
        source = next(iter(_names_set(variable, environ)), "default")
        value = variable.show(getattr(settings, variable.field_name))
        rows.append(Row(variable.name, value, source, variable.unit, variable.help))
    return rows


def markdown_table() -> str:
    """The table of the README: every setting with what it accepts, its default, unit and help."""
    lines = ["| Variable | Accepts | Default | Unit | Meaning |", "|---|---|---|---|---|"]
    for variable in _VARIABLES:
        names = "<br>".join(f"`{name}`" for name in reversed(variable.names))
        default = variable.show(variable.default)
        shown = default if default == variable.absent else f"`{default}`"
        lines.append(f"| {names} | {variable.kind.accepts} | {shown} | {variable.unit} | {variable.help} |")
    return "\n".join(lines)


# Names of the platform's, of its Python SDK and of its own images. None is a misspelling of ours, however near.
_NAMES_OF_OTHERS = frozenset(
    PREFIX + name
    for name in (
        "HEALTH_CHECK_OVERRIDE INFERENCE_OUTPUT INFERENCE_SUPPORTED JOB_NAME MAX_REQUEST_SIZE NUM_MODEL_WORKERS "
        "REGION REQUIREMENTS SECURE_MODE SECURITY_CONTROLS SERVING_MODULE SUBMIT_DIRECTORY TRAINING_MODULE "
        "UNTRUSTED_CHANNELS"
    ).split()
)
_PREFIXES_OF_OTHERS = tuple(PREFIX + word for word in ("TRITON_", "TFS_", "TS_", "GUNICORN_", "NGINX_"))
_PREFIX_OF_OURS = PREFIX + "MODEL_SERVER_"


def warnings_for(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that is none of ours but looks as though it was meant to be."""
    ours = [name for variable in _VARIABLES for name in variable.names]
    sentences = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in ours or _is_of_others(name):
            continue
        near = _nearest(name, ours)
        if near:
            sentences.append(f"{name} is not a setting and is ignored; did you mean {near}?")
        elif name.startswith(_PREFIX_OF_OURS):
            sentences.append(f"{name} is not a setting and is ignored")
    return sentences


def _is_of_others(name: str) -> bool:
    return name in _NAMES_OF_OTHERS or name.startswith(_PREFIXES_OF_OTHERS)


def _nearest(name: str, ours: list[str]) -> str | None:
    # What all the names share says nothing about how near they are.
    bare = {each[len(PREFIX) :]: each for each in ours}
    found = difflib.get_close_matches(name[len(PREFIX) :], bare, n=1, cutoff=0.8)
    return bare[found[0]] if found else None
