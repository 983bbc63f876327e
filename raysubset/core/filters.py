"""Filters: the broom before every strategy, controls too. A dropped id has a reason.

Shape letter: N pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raysubset.core.observations import Observations


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a filter may look at.

    Attributes:
        ids_N: int64, ascending.
        label_N: int64.
        digest_N: int64, a 64-bit hash of each example's content, label not included.
        observations: what training saw so far; None before training.
    """

    ids_N: Tensor
    label_N: Tensor
    digest_N: Tensor
    observations: Observations | None = None

    def take(self, row_K: Tensor) -> Evidence:
        """Return the evidence of some rows."""
        seen = self.observations
        return Evidence(
            ids_N=self.ids_N[row_K],
            label_N=self.label_N[row_K],
            digest_N=self.digest_N[row_K],
            observations=None if seen is None else seen.take(row_K),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """Which rows stay, and why each of the others does not.

    Attributes:
        keep_N: bool, a mask over the rows.
        reasons: dropped id -> one sentence.
    """

    keep_N: Tensor
    reasons: Mapping[int, str]


class Filter(Protocol):
    """Decides which examples may be chosen at all."""

    @property
    def name(self) -> str:
        """The name under which reports list it."""
        ...

    def keep(self, evidence: Evidence) -> Verdict:
        """Return the mask of what stays, with a reason per dropped id."""
        ...


@dataclass(frozen=True)
class ExactDuplicates:
    """Keeps the first of identical examples: same content, same label.

    Equal content under different labels stays: which label is right cannot be told here.
    """

    name: str = "duplicates"

    def keep(self, evidence: Evidence) -> Verdict:
        """Return the mask of first copies; a dropped id names the id that stays."""
        # Stable sorts bring copies together and leave them in the order of their ids.
        order = torch.sort(evidence.label_N, stable=True).indices
        order = order[torch.sort(evidence.digest_N[order], stable=True).indices]
        pair = torch.stack([evidence.digest_N, evidence.label_N])[:, order]
        first = torch.ones(len(order), dtype=torch.bool)
        first[1:] = (pair[:, 1:] != pair[:, :-1]).any(dim=0)
        leader = order[torch.where(first, torch.arange(len(order)), 0).cummax(0).values]
        keep_N = torch.zeros(len(order), dtype=torch.bool)
        keep_N[order[first]] = True
        dropped, kept_as = order[~first], leader[~first]
        ids: list[list[int]] = evidence.ids_N[torch.stack([dropped, kept_as], 1)].numpy().tolist()
        return Verdict(
            keep_N=keep_N,
            reasons={a: f"same content and label as id {b}" for a, b in sorted(ids)},
        )


def keep_all(filters: Sequence[Filter], evidence: Evidence) -> Verdict:
    """Return what every filter keeps; each looks only at what the filters before it kept."""
    keep_N = torch.ones(len(evidence.ids_N), dtype=torch.bool)
    reasons: dict[int, str] = {}
    for each in filters:
        row_K = keep_N.nonzero().flatten()
        verdict = each.keep(evidence.take(row_K))
        keep_N[row_K] = verdict.keep_N
        reasons = {i: f"{each.name}: {why}" for i, why in verdict.reasons.items()} | reasons
    return Verdict(keep_N=keep_N, reasons=reasons)
