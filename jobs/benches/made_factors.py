"""Factors of any size, generated range by range into files: for what needs size, not content.

One range is drawn and scored under a random head; every other is that one, its residuals and
embeddings scaled row by row by a key. Letters: N rows, V validation, C classes, H embedding width.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from raysubset.core.factors import GradientFactors, logits_of, residual_of
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead
from raysubset.learn.mapped import FactorWriter, Number

VALIDATION = 1_000
RANGE_ROWS = 32_768


@contextmanager
def made(rows: int, *, classes: int, width: int, kind: Number) -> Iterator[Path]:
    """Give a folder of generated factors; delete it."""
    folder = Path(tempfile.mkdtemp(prefix="raysubset-scale-"))
    try:
        writer = FactorWriter(
            folder, rows=rows, classes=classes, width=width, residuals=kind, embeddings=kind
        )
        with writer:
            block = _block(classes, width)
            for start in range(0, rows, RANGE_ROWS):
                writer.write(start, _range(block, start, min(rows, start + RANGE_ROWS)))
        yield folder
    finally:
        shutil.rmtree(folder)


def _block(classes: int, width: int) -> GradientFactors:
    """Return one range of rows under a random head; the others are made of it."""
    weight_CH, bias_C = _head(classes, width)
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "block") % 2**31)
    label_N = torch.randint(classes, (RANGE_ROWS,), generator=draw)
    embedding_NH = torch.randn(RANGE_ROWS, width, generator=draw)
    residual_NC = residual_of(logits_of(embedding_NH, weight_CH, bias_C), label_N)
    return GradientFactors(
        ids_N=torch.arange(RANGE_ROWS),
        label_N=label_N,
        residual_NC=residual_NC,
        embedding_NH=embedding_NH,
    )


def _head(classes: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "head") % 2**31)
    return torch.randn(classes, width, generator=draw) / width**0.5, torch.zeros(classes)


def _range(block: GradientFactors, start: int, stop: int) -> GradientFactors:
    """Return the rows [start, stop): the block's, each with a factor of its own by its key."""
    draw = torch.Generator().manual_seed(derive_key(0, "scale", start) % 2**31)
    rows = slice(0, stop - start)
    by_row = 0.5 + torch.rand(2, stop - start, 1, generator=draw)
    return GradientFactors(
        ids_N=torch.arange(start, stop),
        label_N=block.label_N[rows],
        residual_NC=block.residual_NC[rows] * by_row[0],
        embedding_NH=block.embedding_NH[rows] * by_row[1],
    )


def made_lookahead(classes: int, width: int) -> Lookahead:
    """Return validation rows under the same head."""
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "validation") % 2**31)
    label_V = torch.randint(classes, (VALIDATION,), generator=draw)
    embedding_VH = torch.randn(VALIDATION, width, generator=draw)
    return Lookahead.from_embeddings(embedding_VH, label_V, *_head(classes, width))
