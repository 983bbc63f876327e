"""Gradient factors: a last-layer gradient of C x (H+1) numbers, kept as its C + H factors.

With logits z = W h + b, probabilities p and one-hot label y, the cross-entropy gradient of the
head is g = r (outer) [h; 1] with residual r = p - y. It is never expanded.
Shape letters: N examples, C classes, H embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from raysubset.core import intake
from raysubset.errors import DataError

if TYPE_CHECKING:
    from raysubset.core.intake import ArrayLike

# Products run over fixed tiles of rows: they bound the N x C temporaries, and sums over rows
# run tile by tile in order, so that the same rows give the same bits wherever they lie.
TILE_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientFactors:
    """The gradients of N examples as factors.

    Attributes:
        ids_N: int64, distinct; the examples' global row numbers.
        label_N: int64 in 0..C-1.
        residual_NC: p - y, floating.
        embedding_NH: the head's input, floating.
        tile_rows: how many rows products are taken of at a time; it is part of what decides their
            last bits, so shards that are whole runs of tiles give the bits of the whole.

    Residuals and embeddings may be 16-bit, and may lie on a disk: products are taken tile by tile
    in float32 at least, so that neither asks for memory beyond a tile.
    """

    ids_N: Tensor
    label_N: Tensor
    residual_NC: Tensor
    embedding_NH: Tensor
    tile_rows: int = TILE_ROWS

    @classmethod
    def from_embeddings(
        cls,
        embedding_NH: ArrayLike,
        label_N: ArrayLike,
        weight_CH: ArrayLike,
        bias_C: ArrayLike,
        ids: ArrayLike | None = None,
    ) -> GradientFactors:
        """Return the factors of examples whose embeddings and head are given.

        Shapes: (N, H), (N,), (C, H), (C,), ids (N,) or None for 0..N-1. numpy or torch.

        Raises:
            DataError: NaN or infinity (rows named), labels outside 0..C-1, repeated ids.
            ModelError: a head whose width is not the embeddings'.
        """
        embedding = intake.matrix(embedding_NH, "embedding_NH")
        weight, bias = intake.head(weight_CH, bias_C, embedding.shape[1])
        label = intake.labels(label_N, len(embedding), len(weight), "label_N")
        label = label.to(embedding.device)
        logits = logits_of(embedding, weight, bias)
        intake.refuse_non_finite(logits, "the logits of embedding_NH")
        residual = residual_of(logits, label)
        ids_N = intake.row_ids(ids, len(embedding)).to(embedding.device)
        return cls(ids_N=ids_N, label_N=label, residual_NC=residual, embedding_NH=embedding)

    @classmethod
    def from_residuals(
        cls,
        residual_NC: ArrayLike,
        embedding_NH: ArrayLike,
        label_N: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> GradientFactors:
        """Return the factors of a head with any loss, given r = dL/dz of its outputs.

        Of sigmoid cross-entropy (many labels) and squared error, r is in `core.residuals`. Norms,
        sums and gains along a direction of yours are exact; GLISTER's own look-ahead is of the
        softmax cross-entropy, so give it none of these.

        Shapes: (N, C), (N, H), (N,) or None for one class, ids (N,) or None for 0..N-1.

            factors = rs.GradientFactors.from_residuals(output_N1 - target_N1, embedding_NH)
            factors.norm_N  # the norm of each example's gradient

        Raises:
            DataError: NaN or infinity (rows named), lengths that differ, labels outside 0..C-1,
                repeated ids.
        """
        residual = intake.matrix(residual_NC, "residual_NC")
        embedding = intake.matrix(embedding_NH, "embedding_NH")
        size = len(embedding)
        if len(residual) != size:
            raise DataError(
                f"residual_NC has {len(residual):,} rows and embedding_NH {size:,}; give both for "
                "the same examples, in one order."
            )
        label = torch.zeros(size, dtype=torch.int64)
        if label_N is not None:
            label = intake.labels(label_N, size, residual.shape[1], "label_N")
        return cls(
            ids_N=intake.row_ids(ids, size).to(embedding.device),
            label_N=label.to(embedding.device),
            residual_NC=residual.to(embedding.device),
            embedding_NH=embedding,
        )

    @classmethod
    def from_labels(
        cls, label_N: ArrayLike, num_classes: int, ids: ArrayLike | None = None
    ) -> GradientFactors:
        """Return factors without gradients, for strategies that look at ids and labels only."""
        label = intake.labels(label_N, len(label_N), num_classes, "label_N")
        empty = torch.zeros(len(label), 0)
        residual = torch.zeros(len(label), 1).expand(-1, num_classes)
        ids_N = intake.row_ids(ids, len(label))
        return cls(ids_N=ids_N, label_N=label, residual_NC=residual, embedding_NH=empty)

    @property
    def num_examples(self) -> int:
        """N."""
        return self.ids_N.shape[0]

    @property
    def num_classes(self) -> int:
        """C."""
        return self.residual_NC.shape[1]

    @cached_property
    def norm_N(self) -> Tensor:
        """|g| = |r| |[h; 1]|. Shape: (N,)."""
        parts = [
            (t.residual_NC.square().sum(1) * (t.embedding_NH.square().sum(1) + 1)).sqrt()
            for t in self.wide_tiles()
        ]
        return torch.cat(parts) if parts else self.residual_NC.new_zeros(0, dtype=self.wide_type)

    @property
    def wide_type(self) -> torch.dtype:
        """The type in which products are taken: the residual's, float32 at least."""
        return torch.promote_types(torch.float32, self.residual_NC.dtype)

    def wide_embedding(self) -> Tensor:
        """Return the embeddings in the type of products. Shape: (N, H)."""
        return self.embedding_NH.to(self.wide_type)

    def gradient_sum(self, onto: Tensor | None = None) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1), bias gradient in the last column.

        Args:
            onto: the sum over the rows before these: shards one after the other add their tiles
                in the order of the whole, and so give its bits.
        """
        shape = (self.num_classes, self.embedding_NH.shape[1] + 1)
        total = self.residual_NC.new_zeros(shape, dtype=self.wide_type)
        total = total if onto is None else total.copy_(onto)
        for tile in self.wide_tiles():
            total[:, :-1] += tile.residual_NC.T @ tile.embedding_NH
            total[:, -1] += tile.residual_NC.sum(0)
        return total

    def bias_only(self) -> GradientFactors:
        """Return the factors of the bias gradient alone: the embedding has width 0."""
        return GradientFactors(
            ids_N=self.ids_N,
            label_N=self.label_N,
            residual_NC=self.residual_NC,
            embedding_NH=self.embedding_NH[:, :0],
            tile_rows=self.tile_rows,
        )

    def take(self, rows: Tensor | slice) -> GradientFactors:
        """Return the factors of some rows, in their order (rows are positions, not ids)."""
        return GradientFactors(
            ids_N=self.ids_N[rows],
            label_N=self.label_N[rows],
            residual_NC=self.residual_NC[rows],
            embedding_NH=self.embedding_NH[rows],
            tile_rows=self.tile_rows,
        )

    def tiles(self) -> Iterator[GradientFactors]:
        """Yield the rows in fixed tiles, in order: views."""
        for start in range(0, self.num_examples, self.tile_rows):
            yield self.take(slice(start, start + self.tile_rows))

    def wide_tiles(self) -> Iterator[GradientFactors]:
        """Yield the tiles in the type of products, one copy at a time where rows have another."""
        return (tile.wide() for tile in self.tiles())

    def wide(self) -> GradientFactors:
        """Return the rows in the type of products; the rows themselves where they have it."""
        return GradientFactors(
            ids_N=self.ids_N,
            label_N=self.label_N,
            residual_NC=self.residual_NC.to(self.wide_type),
            embedding_NH=self.embedding_NH.to(self.wide_type),
            tile_rows=self.tile_rows,
        )

    @staticmethod
    def concat(parts: Sequence[GradientFactors]) -> GradientFactors:
        """Return the union of shards, in the order given."""
        if len(parts) == 1:
            return parts[0]
        return GradientFactors(
            ids_N=torch.cat([p.ids_N for p in parts]),
            label_N=torch.cat([p.label_N for p in parts]),
            residual_NC=torch.cat([p.residual_NC for p in parts]),
            embedding_NH=torch.cat([p.embedding_NH for p in parts]),
            tile_rows=parts[0].tile_rows,
        )


def logits_of(embedding_NH: Tensor, weight_CH: Tensor, bias_C: Tensor) -> Tensor:
    """Return z = h W^T + b, in float32 at least. Shapes: (N, H), (C, H), (C,) -> (N, C)."""
    wide = torch.promote_types(torch.float32, torch.promote_types(embedding_NH.dtype, bias_C.dtype))
    embedding_NH = embedding_NH.to(wide)
    return embedding_NH @ weight_CH.to(embedding_NH).T + bias_C.to(embedding_NH)


def residual_of(logits_NC: Tensor, label_N: Tensor) -> Tensor:
    """Return r = softmax(z) - onehot(y), the gradient of the cross-entropy in the logits."""
    probability_NC = torch.softmax(logits_NC, dim=1)
    return probability_NC - one_hot(label_N, logits_NC.shape[1]).to(probability_NC.dtype)
