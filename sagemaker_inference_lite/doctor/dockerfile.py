# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile: whether SageMaker could start, stop and ask what it makes. Only its last stage counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sagemaker_inference_lite.inspection.findings import Finding, Level

CAPABILITIES = ("multi-models", "accept-bind-to-port")
LABEL = "com.amazonaws.sagemaker.capabilities."

_PACKAGE = re.compile(r"sagemaker[_-]inference[_-]lite")


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        name: In capitals.
        text: What stands behind it, on one line.
    """

    name: str
    text: str


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile's last stage, with its FROM, and those before the first one."""
    found: list[Instruction] = []
    for line in _joined(text):
        name, _, rest = line.partition(" ")
        if name.upper() == "FROM":
            found = [each for each in found if each.name == "ARG"]
        found.append(Instruction(name.upper(), rest.strip()))
    return found


def _joined(text: str) -> Iterator[str]:
    """Lines with what continues them; comments are left out."""
    pending = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#") or (not stripped and not pending):
            continue
        pending = f"{pending} {stripped}".strip()
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip()
            continue
        yield pending
        pending = ""
    if pending:
        yield pending


def inspect_dockerfile(path: Path) -> list[Finding]:
    """What there is to say of a Dockerfile."""
    try:
        found = instructions(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return [Finding(Level.ERROR, f"{path} cannot be read: {error}")]
    if not any(each.name == "FROM" for each in found):
        return [Finding(Level.ERROR, f"{path} has no FROM.")]
    labels = " ".join(each.text for each in found if each.name == "LABEL")
    commands = {each.name: each.text for each in found if each.name in ("ENTRYPOINT", "CMD")}
    runs = " ".join(each.text for each in found if each.name in ("RUN", "COPY"))
    return [
        *_labels({name for name in CAPABILITIES if re.search(rf"{re.escape(LABEL + name)}\"?\s*=\s*\"?true", labels)}),
        *entry_point(_form(commands.get("ENTRYPOINT")), _form(commands.get("CMD"))),
        *_installed(path, runs, path.read_text(encoding="utf-8")),
    ]


def _form(text: str | None) -> list[str] | str | None:
    """A list where it is the exec form, the text where it is a shell's, None where there is none."""
    if text is None:
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return text
    return words if isinstance(words, list) else text


def _labels(there: set[str]) -> Iterator[Finding]:
    for name in CAPABILITIES:
        if name in there:
            yield Finding(Level.OK, f"LABEL {LABEL}{name}=true")
        else:
            what = "host several models with it" if name == "multi-models" else "choose its port"
            yield Finding(Level.WARNING, f"No label {name}: SageMaker cannot {what}.", f"LABEL {LABEL}{name}=true")


def labels(there: dict[str, str]) -> Iterator[Finding]:
    """What an image's labels say."""
    return _labels({name for name in CAPABILITIES if there.get(LABEL + name) == "true"})


def entry_point(entry: list[str] | str | None, command: list[str] | str | None) -> Iterator[Finding]:
    """What ENTRYPOINT and CMD mean for a container that SageMaker runs: ``docker run IMAGE serve``."""
    if entry is None:
        yield Finding(
            Level.ERROR,
            "No ENTRYPOINT: SageMaker runs the image with the one argument serve, which is then taken for a program.",
            'ENTRYPOINT ["python3", "/usr/local/bin/dockerd-entrypoint.py"]',
        )
    elif isinstance(entry, str) or entry[:2] in (["/bin/sh", "-c"], ["sh", "-c"]):
        yield Finding(
            Level.ERROR,
            "ENTRYPOINT is run by a shell, which passes neither the argument serve nor SIGTERM on: requests in flight "
            "are lost at each stop.",
            'Write it as a list: ENTRYPOINT ["python3", "/usr/local/bin/dockerd-entrypoint.py"]',
        )
    else:
        yield Finding(Level.OK, f"ENTRYPOINT {json.dumps(entry)}")
    if command not in (None, ["serve"]) and entry is not None:
        yield Finding(Level.WARNING, f"CMD is {command}, and SageMaker says serve in its place.", 'CMD ["serve"]')


def _installed(path: Path, runs: str, whole: str) -> Iterator[Finding]:
    if not _PACKAGE.search(whole) and "requirements" not in runs:
        yield Finding(Level.WARNING, f"{path} does not install sagemaker_inference_lite, as far as can be seen.")
        return
    if "[jre" not in whole and ",jre" not in whole and "java" not in whole.lower() and "jdk" not in whole.lower():
        yield Finding(
            Level.WARNING,
            f"{path} installs no Java, as far as can be seen.",
            "pip install 'sagemaker_inference_lite[jre]', unless the base image has one.",
        )
    if "prepare" not in whole:
        sentence = "prepare is not run: a container is ready after 0.6 s, and with it after 0.4"
        yield Finding(Level.OK, sentence, "RUN sagemaker-inference-lite prepare")
