"""Recall: a scorer's memory of what its backbone gives, while that cannot change.

It is on where every parameter before the head is frozen and the model in evaluation mode draws
nothing. The backbone's digest, taken again whenever a weight or statistic was written to, decides
what may be recalled: what moved after all is forgotten, not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from raysubset.learn.frozen import backbone_digest, backbone_tensors, is_frozen, is_steady, versions
from raysubset.learn.head import Head
from raysubset.learn.kept import Kept, KeptEmbeddings

if TYPE_CHECKING:
    from raysubset.learn.scoring import RangeOutput, RowRange


class Recall:
    """What one scorer remembers."""

    def __init__(self, model: nn.Module, head: Head, sample_B: Tensor) -> None:
        """Remember nothing yet; `sample_B`, normalised, is run once to see if the model draws."""
        self._model, self._head, self._sample_B = model, head, sample_B
        self._kept = KeptEmbeddings()
        self._steady: bool | None = None
        self._versions: object = None
        self._looked_at: tuple[Tensor, ...] = ()

    def is_on(self) -> bool:
        """Return whether embeddings are kept at all."""
        if not is_frozen(self._model, self._head):
            return False
        if self._steady is None:
            self._steady = is_steady(self._model, self._head, self._sample_B)
        return self._steady

    def find(self, rows: RowRange, source: str) -> Kept | None:
        """Return what is known of a range of this data at the present backbone, if anything."""
        self._look()
        return self._kept.find(rows.part, rows.index, rows.ids, source)

    def keep(self, rows: RowRange, made: Kept) -> None:
        """Keep what the present backbone gave for a range."""
        self._look()
        self._kept.keep(rows.part, rows.index, made)

    def _look(self) -> None:
        now = versions(self._model, self._head)
        if now != self._versions:
            self._kept.stand_at(backbone_digest(self._model, self._head))
            self._versions, self._looked_at = now, backbone_tensors(self._model, self._head)


def rows_remembered(outputs: Sequence[RangeOutput]) -> dict[str, float]:
    """Return how many rows went through a frozen backbone, and how many were known; else {}."""
    told = [(out.remembered, len(out.ids) + len(out.left_out)) for out in outputs]
    if all(known is None for known, _ in told):
        return {}
    return {
        "examples_forwarded": float(sum(rows for known, rows in told if not known)),
        "examples_remembered": float(sum(rows for known, rows in told if known)),
    }
