"""Markdown pages as the tests see them: fenced blocks, links and anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\S*)\s*$")
_COMMENT = re.compile(r"^<!--\s*(.*?)\s*-->$")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands, from the root.
        line: of its first line of text, from 1.
        language: after the fence; "" for none.
        text: what is between the fences.
        comment: the text of the HTML comment on the line above the fence, or "".
    """

    page: str
    line: int
    language: str
    text: str
    comment: str

    @property
    def place(self) -> str:
        """Return what a person needs to find it: page:line."""
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str:
        """Return why the block is not run, or "" where it is."""
        head, _, reason = self.comment.partition(":")
        return reason.strip() if head.strip() == "not run" else ""


@dataclass(frozen=True)
class Page:
    """A page, by its path from the root."""

    name: str

    @cached_property
    def lines(self) -> list[str]:
        """Return its lines."""
        return (ROOT / self.name).read_text(encoding="utf-8").splitlines()

    @cached_property
    def blocks(self) -> list[Block]:
        """Return its fenced blocks, in order.

        Raises:
            ValueError: a fence that nothing closes.
        """
        found: list[Block] = []
        start: int | None = None
        for number, line in enumerate(self.lines):
            if not (fence := _FENCE.match(line)):
                continue
            if start is None:
                start, language = number, fence[2]
                continue
            above = _COMMENT.match(self.lines[start - 1]) if start else None
            found.append(
                Block(
                    page=self.name,
                    line=start + 2,
                    language=language,
                    text="\n".join(self.lines[start + 1 : number]) + "\n",
                    comment=above[1] if above else "",
                )
            )
            start = None
        if start is not None:
            raise ValueError(f"{self.name}:{start + 1}: a fence that nothing closes")
        return found

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """Return (number, line) of what stands outside fences."""
        told: list[tuple[int, str]] = []
        inside = False
        for number, line in enumerate(self.lines, start=1):
            if _FENCE.match(line):
                inside = not inside
            elif not inside:
                told.append((number, line))
        return told

    @property
    def links(self) -> list[tuple[int, str]]:
        """Return (line, target) of every Markdown link and picture."""
        plain = ((number, _CODE.sub("", line)) for number, line in self.prose)
        return [(number, target) for number, line in plain for target in _LINK.findall(line)]

    @property
    def inline_code(self) -> list[tuple[int, str]]:
        """Return (line, text) of every piece of code inside prose."""
        return [(number, text) for number, line in self.prose for text in _CODE.findall(line)]

    @cached_property
    def anchors(self) -> set[str]:
        """Return the anchors of its headings, as GitHub makes them."""
        seen: dict[str, int] = {}
        found: set[str] = set()
        inside = False
        for line in self.lines:
            inside ^= bool(_FENCE.match(line))
            if inside or not (heading := re.match(r"^#{1,6} (.+?)\s*$", line)):
                continue
            anchor = _anchor(heading[1])
            count = seen.get(anchor, 0)
            seen[anchor] = count + 1
            found.add(f"{anchor}-{count}" if count else anchor)
        return found


def _anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def pages() -> list[Page]:
    """Return the README and every page of docs/."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path.relative_to(ROOT).as_posix()) for path in paths]
