"""A finding: what one check saw, and what to do about it; the verdict over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check saw.

    Attributes:
        name: of the check; the same in every version of the JSON.
        status: failed stops or endangers a run; a warning does not.
        found: a sentence with the figures.
        remedy: what to do; empty where nothing is to be done.
        facts: the figures, for a program.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """Return what one document says of it; the keys stay, and new ones may come."""
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All findings, in the order of the checks.

    Attributes:
        where: what was looked at: this machine, or a cluster.
        findings: one a check.
        strict: whether a warning counts as a failure.
    """

    where: str
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """1 where something failed (or, strictly, where a check warns), else 0."""
        bad = ("failed", "warning") if self.strict else ("failed",)
        return int(any(finding.status in bad for finding in self.findings))

    @property
    def verdict(self) -> str:
        """One line: what stands in the way, by the names of the checks."""
        failed, warned, left_out = (self._named(kind) for kind in ("failed", "warning", "skipped"))
        also = [_of(warned, "warning")] * bool(warned)
        also += [f"{_of(left_out, 'check')} skipped"] * bool(left_out)
        told = f" ({'; '.join(also)})" if also else ""
        if failed:
            return f"{_of(failed, 'problem')} would stop or endanger this run: " + (
                f"{', '.join(failed)}{told}"
            )
        if warned and self.strict:
            return f"{_of(warned, 'warning')}, and --strict allows none: {', '.join(warned)}"
        return f"nothing found that would stop this run{told}"

    def to_json(self) -> dict[str, Any]:
        """Return one document; its keys stay, and new ones may come."""
        return {
            "schema": SCHEMA,
            "where": self.where,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "strict": self.strict,
            "checks": [finding.to_json() for finding in self.findings],
        }

    def _named(self, status: Status) -> list[str]:
        return [finding.name for finding in self.findings if finding.status == status]


def ok(name: str, found: str, **facts: Any) -> Finding:
    """Return a finding of a check that saw nothing wrong."""
    return Finding(name=name, status="ok", found=found, facts=facts)


def warning(name: str, found: str, remedy: str, **facts: Any) -> Finding:
    """Return a finding that a run lives with."""
    return Finding(name=name, status="warning", found=found, remedy=remedy, facts=facts)


def failed(name: str, found: str, remedy: str, **facts: Any) -> Finding:
    """Return a finding that stops or endangers a run."""
    return Finding(name=name, status="failed", found=found, remedy=remedy, facts=facts)


def skipped(why: str, *names: str) -> tuple[Finding, ...]:
    """Return a skipped finding for each name, with the one reason."""
    return tuple(Finding(name=name, status="skipped", found=why) for name in names)


def _of(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"
