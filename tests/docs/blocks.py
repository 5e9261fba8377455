"""Finds the command blocks of the documents.

A block is fenced and has one of `LANGUAGES`. A comment before the fence may mark it:

    <!-- not run: REASON -->     REASON is one of `REASONS`
    <!-- keeps running -->       it serves until the page ends; the next block runs once it has printed a line
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("sh", "bash", "shell", "console", "python")
REASONS = (
    "needs a Docker engine",
    "needs a cluster",
    "needs a network",
    "needs another machine",
    "takes hours",
    "is the test run itself",
    "is an excerpt",
    "changes this checkout",
    "changes the git hooks of this checkout",
)

_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)(?:<!-- (?P<mark>[^>]*) -->\n[ ]*)?```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
_FENCE = re.compile(r"^[ ]*```.*?^[ ]*```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands of a page. `mark` is the text of the comment before it, or empty."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def reason(self) -> str | None:
        """Why it is not run, or None if it is."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else None

    @property
    def keeps_running(self) -> bool:
        return self.mark == "keeps running"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Returns all documents, relative to the root of the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "schemas" / "README.md"]
    found += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """Returns the page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def blocks(page: str) -> list[Block]:
    """Returns the command blocks of a page in their order."""
    text = text_of(page)
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            textwrap.dedent(match["text"]),
            match["mark"] or "",
        )
        for match in _BLOCK.finditer(text)
        if match["language"] in LANGUAGES
    ]
