# SPDX-License-Identifier: Apache-2.0
"""The README's examples, as the tests run them."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def handlers() -> dict[str, str]:
    """The Python blocks that are files, by the name that their first line gives."""
    found = [(re.match(r"# (\S+), served ", block), block) for block in blocks("python")]
    return {name[1]: block for name, block in found if name}
