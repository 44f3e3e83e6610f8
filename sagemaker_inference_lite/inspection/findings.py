# SPDX-License-Identifier: Apache-2.0
"""What has been found about a model, a machine, an image: each a sentence, how bad it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """Something that somebody should know.

    Attributes:
        level: How bad it is.
        what: A sentence.
        mend: What to do about it; "" where the sentence says it.
    """

    level: Level
    what: str
    mend: str = ""


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is well; otherwise in their order."""
    return sorted(findings, key=lambda each: [Level.ERROR, Level.WARNING, Level.OK].index(each.level))
