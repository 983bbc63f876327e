"""Differences: what is not as it was recorded, by file; and a check's findings made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raysubset.doctor.finding import Finding, failed, ok, skipped

_NAMED = 3
RESTORE = (
    "put the file back from a copy, or look at what else that disk holds; a damaged newest round "
    "is redone by the same command with --resume, an older one asks for a new run"
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A folder that is looked at.

    Attributes:
        folder: where it lies.
        prefix: what stands before its files' names: a run of a comparison is in a folder of it.
        trial: whether it is a frontier's, whose finished runs keep no checkpoint.
    """

    folder: Path
    prefix: str = ""
    trial: bool = False

    def name(self, path: Path) -> str:
        """Return what a file is called."""
        return self.prefix + path.relative_to(self.folder).as_posix()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not what was recorded.

    Attributes:
        file: its name below the folder that was asked about.
        what: a sentence's end.
        expected: as recorded; "" where nothing was.
        found: as it is.
    """

    file: str
    what: str
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        """Return it as a sentence."""
        values = f"; expected {self.expected}, found {self.found}" if self.expected else ""
        return f"{self.file} {self.what}{values}"


@dataclass(kw_only=True)
class Check:
    """One check while it goes on.

    Attributes:
        name: the same in every version of the JSON.
        told: what was found well; "" where nothing was looked at.
        remedy: what to do about a difference.
        differences: what is not well.
        unchecked: what could not be looked at, and why.
    """

    name: str
    told: str = ""
    remedy: str = RESTORE
    differences: list[Difference] = field(default_factory=list[Difference])
    unchecked: list[str] = field(default_factory=list[str])

    def differs(self, file: str, what: str, expected: object = "", found: object = "") -> None:
        """Note a difference."""
        told = (str(expected), str(found))
        self.differences.append(Difference(file=file, what=what, expected=told[0], found=told[1]))

    def findings(self) -> list[Finding]:
        """Return what it saw: what was well, or the first that was not; and what was left out."""
        found: list[Finding] = []
        if self.differences:
            all_of_them = [asdict(each) for each in self.differences]
            told = first_of([str(each) for each in self.differences])
            found.append(failed(self.name, told, self.remedy, differences=all_of_them))
        elif self.told:
            found.append(ok(self.name, self.told))
        if self.unchecked:
            found += skipped(first_of(self.unchecked), self.name)
        return found

    @property
    def damaged(self) -> set[str]:
        """The files that are not what was recorded."""
        return {each.file for each in self.differences}


def first_of(sentences: Sequence[str]) -> str:
    """Return the first few of many."""
    more = len(sentences) - _NAMED
    return "; ".join(sentences[:_NAMED]) + (f"; and {more:,} more" if more > 0 else "")


def short(digest: str) -> str:
    """Return enough of a hash for a person to compare."""
    return digest[:12] or "none"
