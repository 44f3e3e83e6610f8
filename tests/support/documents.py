# SPDX-License-Identifier: Apache-2.0
"""The examples of the README and of docs/, as the tests run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

_BLOCK = re.compile(r"^( *)```(\S+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: The name of the file.
        language: What stands behind the fence.
        text: What stands in it.
    """

    page: str
    language: str
    text: str


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(language: str, of_page: str = "") -> list[str]:
    """The fenced blocks of a language, in their order; of one page only where that is named."""
    return [each.text for each in all_blocks() if each.language == language and of_page in ("", each.page)]


def all_blocks() -> list[Block]:
    """All fenced blocks of all pages."""
    return [
        Block(each.name, language, text)
        for each in PAGES
        for _, language, text in _BLOCK.findall(each.read_text(encoding="utf-8"))
    ]


def handlers() -> dict[str, str]:
    """The Python blocks that are files, by the name that their first line gives; equal names have equal texts."""
    found: dict[str, str] = {}
    for block in blocks("python"):
        name = re.match(r"# (\S+), served ", block)
        if name:
            assert found.setdefault(name[1], block) == block, name[1]
    return found
