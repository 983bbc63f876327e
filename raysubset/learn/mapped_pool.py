"""A pool whose factors are beyond the memory for them: written to a disk as they are made.

The laptop twin's larger brother: the same ranges and batches, the same tiles, so the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from raysubset.core.factors import TILE_ROWS
from raysubset.core.ground_set import GroundSet
from raysubset.errors import ConfigError
from raysubset.learn.choosing import (
    Choice,
    Chooser,
    PhaseLike,
    Progress,
    choose_from,
    factors_of,
)
from raysubset.learn.mapped import FactorWriter, Stored, open_factors
from raysubset.learn.scoring import RowRange, Scorer
from raysubset.learn.shards import shards_here
from raysubset.learn.spool import Spool
from raysubset.learn.weights import Weights
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Block, Blocks
from raysubset.strategies.regularizers import RandomFill
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy

FACTORS = "factors"
Shards = Callable[[Path], AbstractContextManager[GroundSet]]
"""Gives the ground set of the factors in a folder."""


def one_shard(folder: Path) -> AbstractContextManager[GroundSet]:
    """Give the ground set in this process."""
    return nullcontext(shards_here(open_factors(folder), 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedPool:
    """Scores in this process, and selects from a disk.

    Attributes:
        chooser: filters, candidates, strategy and quotas.
        scorer: whose embeddings are the pool's rows where `rows` is given.
        spool: the folder.
        rows: where the pool's rows lie, if these are the embeddings; they are not written again.
        shards: who answers for the rows.
        progress: told of how far it is.
    """

    chooser: Chooser
    scorer: Scorer
    spool: Spool
    rows: Stored | None
    shards: Shards
    progress: Progress

    def select(self, phase: PhaseLike, weights: Weights) -> Selection:
        """Return the selection of a phase; the same as with all factors in memory."""
        self.scorer.load(weights.state())
        return self.chooser.select(phase, self._score_and_choose)

    def _score_and_choose(
        self, ranges: Sequence[RowRange], choice: Choice
    ) -> tuple[Selection, float]:
        start, split = perf_counter(), choice.num_validation
        validation = [
            self.scorer.score(rows, embeddings=choice.embeddings) for rows in ranges[:split]
        ]
        folder = self.spool.folder / FACTORS
        self._write(folder, ranges[split:], choice.embeddings)
        busy_s = perf_counter() - start
        with self.shards(folder) as ground_set:
            return choose_from(choice, ground_set, validation, self.progress), busy_s

    def _write(self, folder: Path, ranges: Sequence[RowRange], embeddings: bool) -> None:
        size = sum(len(rows.ids) for rows in ranges)
        pool = self.chooser.parts.pool
        width = self.scorer.head.in_features if embeddings else 0
        lies = self.rows if embeddings and size == pool.num_examples else None
        needed = size * (16 + 4 * (pool.num_classes + (0 if lies else width)))
        self.spool.require(needed, f"the gradient factors of {size:,} rows")
        writer = FactorWriter(
            folder,
            rows=size,
            classes=pool.num_classes,
            width=width,
            embeddings=lies or "float32",
            tile_rows=TILE_ROWS,  # as in memory: the same bits
        )
        with writer:
            at = 0
            for done, rows in enumerate(ranges, 1):
                factors = factors_of(self.scorer.score(rows, embeddings=embeddings))
                writer.write(at, factors)
                at += factors.num_examples
                self.progress("scoring", done, len(ranges))


def refuse_one_by_one(strategy: Strategy, factor_bytes: int, memory_bytes: int) -> None:
    """Refuse plans that read all factors for every pick, or every pair of them.

    Raises:
        ConfigError: names the option, and both numbers.
    """
    if not isinstance(strategy, Glister):
        return
    told = (
        f"the pool's gradient factors take {factor_bytes / 1e6:,.0f} MB, which is above "
        f"--resources.selection_memory_mb {memory_bytes / 1e6:,.0f}, so they lie on a disk, "
    )
    if not isinstance(strategy.picks, Block | Blocks):
        raise ConfigError(
            f"{told}and these picks would read all of it for each; use --selection.glister.picks "
            '"blocks(50)", choose from a sample (--selection.candidates 4), or raise the limit '
            "where the machine has the memory (three times that)."
        )
    if not isinstance(strategy.regularizer, RandomFill | None):
        raise ConfigError(
            f"{told}and this regularizer would read all of it for each pick; leave "
            "--selection.glister.regularizer out, or raise the limit where the machine has the "
            "memory (three times that)."
        )
