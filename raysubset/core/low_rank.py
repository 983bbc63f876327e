"""Embeddings on a small orthonormal basis, and what is left of their norms beside it.

For any direction D and an orthonormal basis Q (H+1 x q) of the head's input,

    <g_i, D> = r_i^T (D Q) (Q^T a_i) + r_i^T D_rest a_i,rest
    |second term| <= |r_i| |a_i,rest| |D_rest|

so a table Q^T a_i of q numbers a row and one norm a row bound every gain from both sides.
Shape letters: N rows, V validation examples, C classes, H embedding width, q basis width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors

LEAD = 24
"""Leading directions of the validation embeddings that the basis always holds."""
_NEW = 1e-4  # of |D|: a direction below it is rounding noise, and would not be orthogonal
_LEFT = 4e-6  # of |a|^2: what rounding may hide of a squared norm beside the basis


class LowRank:
    """A growing basis, the rows' coordinates on it, and their norms beside it.

    Attributes:
        basis_Hq: Q, orthonormal, (H+1, q).
        spread: the largest singular value of the validation embeddings beside the leading
            directions; beside any larger basis it is smaller.
    """

    def __init__(self, factors: GradientFactors, embedding_VH: Tensor, most: int) -> None:
        """Start with the leading directions; `most` is the basis width that is never passed."""
        self._factors, self._embedding_VH = factors, embedding_VH
        width = embedding_VH.shape[1] + 1
        self.most = min(most, width)
        self._lead_Hq, self.spread = _leading(embedding_VH, min(LEAD, max(1, self.most // 2)))
        norms = [torch.linalg.vector_norm(t.wide_embedding(), dim=1) for t in factors.tiles()]
        self._square_N = torch.cat(norms).square_() + 1
        self._table_mN = self._square_N.new_empty(self.most, len(self._square_N))
        self.restart()

    @property
    def width(self) -> int:
        """Q."""
        return self.basis_Hq.shape[1]

    @property
    def table_qN(self) -> Tensor:
        """The rows' coordinates Q^T a_i; a view. Shape: (q, N)."""
        return self._table_mN[: self.width]

    @property
    def norm_N(self) -> Tensor:
        """|a_i|."""
        return self._square_N.sqrt()

    @property
    def rest_N(self) -> Tensor:
        """|a_i| beside the basis, rounded up."""
        return (self._rest_N.clamp_min(0) + _LEFT * self._square_N).sqrt()

    def restart(self) -> None:
        """Return to the leading directions alone."""
        self.basis_Hq = self._lead_Hq[:, :0]
        self.look_Vq = self._embedding_VH[:, :0]
        self._rest_N = self._square_N.clone()
        self._join(self._lead_Hq)

    def split(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return D Q and what is left of D beside the basis. (C, H+1) -> (C, q), (C, H+1)."""
        coordinate_Cq = direction @ self.basis_Hq
        return coordinate_Cq, direction - coordinate_Cq @ self.basis_Hq.T

    def grow(self, direction: Tensor, most: int) -> bool:
        """Take in the `most` strongest directions that D has beside the basis; False: none new."""
        rest = self.split(self.split(direction)[1])[1]
        _, strength, rows = torch.linalg.svd(rest, full_matrices=False)
        new = int((strength > _NEW * torch.linalg.vector_norm(direction)).sum())
        new = min(new, most, self.most - self.width)
        if new <= 0:
            return False
        added_Hq = rows[:new].T
        added_Hq = added_Hq - self.basis_Hq @ (self.basis_Hq.T @ added_Hq)
        self._join(torch.linalg.qr(added_Hq)[0])
        return True

    def _join(self, added_Hq: Tensor) -> None:
        start, stop = self.width, self.width + added_Hq.shape[1]
        at = 0
        for tile in self._factors.tiles():
            part_qT = added_Hq[:-1].T @ tile.wide_embedding().T + added_Hq[-1][:, None]
            self._table_mN[start:stop, at : at + part_qT.shape[1]] = part_qT
            at += part_qT.shape[1]
        self._rest_N -= self._table_mN[start:stop].square().sum(0)
        look_Vq = self._embedding_VH @ added_Hq[:-1] + added_Hq[-1]
        self.look_Vq = torch.cat([self.look_Vq, look_Vq], dim=1).contiguous()
        self.basis_Hq = torch.cat([self.basis_Hq, added_Hq], dim=1)


def _leading(embedding_VH: Tensor, count: int) -> tuple[Tensor, float]:
    """Return the leading right singular vectors of [A, 1], and the next singular value."""
    wide = torch.cat([embedding_VH, embedding_VH.new_ones(len(embedding_VH), 1)], dim=1)
    value, vector = torch.linalg.eigh(wide.T @ wide)
    left = value[-count - 1] if count < len(value) else value.new_zeros(())
    # The Gram matrix rounds by a share of its largest value, which may be all of a small one.
    return vector[:, -count:].contiguous(), float((left.clamp_min(0) + _LEFT * value[-1]).sqrt())
