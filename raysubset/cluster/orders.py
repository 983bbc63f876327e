"""Orders: what the driver asks of the standing crew, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysubset.cluster.blocks import Located
from raysubset.cluster.sight import Token
from raysubset.learn.checkpoint import CheckpointRef
from raysubset.learn.choosing import Choice
from raysubset.learn.learner import TrainOrder
from raysubset.learn.partial import Open
from raysubset.learn.scoring import RangeOutput
from raysubset.learn.sent_partial import SentPartial


@dataclass(frozen=True, kw_only=True)
class At:
    """A point of a run: the state after one of its rounds.

    Attributes:
        run: which run; one crew serves several, one after the other.
        round: the round that ended with the state.
        checkpoint: where it lies; None while it is being written.
        token: tells a rank whether it sees where that is; None: it does.
        content: [ref of the checkpoint with its bytes], once a rank asked for them.
    """

    run: str
    round: int
    checkpoint: CheckpointRef | None = None
    token: Token | None = None
    content: Sequence[Any] = ()


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a phase, evaluate validation, save the state.

    Attributes:
        at: the point to start from; None: from the initial weights.
        run: which run.
        round: the round that this makes.
        work: ids, weights and epochs.
        rows: references to blocks that hold the ids.
        validation: the validation part's ranges, each rank's own.
        folder: where rank 0 writes the checkpoint.
        token: tells rank 0 whether it sees the folder's disk; else it sends what it would write.
        send_weights: whether rank 0 answers with the weights, for scoring actors.
        begun: where finished epochs are kept, and perhaps are; None: nowhere.
        ahead: whether rank 0 sends the weights at the start of the last epoch, while it trains it.
    """

    at: At | None
    run: str
    round: int
    work: TrainOrder
    rows: Sequence[Any]
    validation: Sequence[Sequence[Located]]
    folder: str
    send_weights: bool
    begun: Open | None = None
    token: Token | None = None
    ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score ranges in place.

    Attributes:
        at: with which state.
        ranges: each rank's own.
        embeddings: whether they are asked for.
    """

    at: At
    ranges: Sequence[Sequence[Located]]
    embeddings: bool


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Choose on rank 0's device, from outputs that every rank scored."""

    at: At
    choice: Choice
    outputs: Sequence[RangeOutput]


@dataclass(frozen=True, kw_only=True)
class Count:
    """Evaluate a part.

    Attributes:
        at: with which state; None: the initial one.
        ranges: of the part, each rank's own.
    """

    at: At | None
    ranges: Sequence[Sequence[Located]]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Go home."""


Order = Train | Score | Choose | Count | Stop


@dataclass(frozen=True, kw_only=True)
class Lost:
    """An answer: this rank was restarted and has no state to do the order with."""

    at: At


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An answer: the order raised; the error travels to the driver, and the crew lives on."""

    error: Exception


@dataclass(frozen=True, kw_only=True)
class Posted:
    """An order under its number.

    Attributes:
        number: grows by one with every order of a crew.
        order: what to do.
    """

    number: int
    order: Order

    def to(self, rank: int) -> Posted:
        """Return the order as one rank gets it: with its own ranges and no others' references."""
        order = self.order
        if isinstance(order, Train):
            return replace(self, order=replace(order, validation=_only(order.validation, rank)))
        if isinstance(order, Score | Count):
            return replace(self, order=replace(order, ranges=_only(order.ranges, rank)))
        return self


def _only(ranges: Sequence[Sequence[Located]], rank: int) -> Sequence[Sequence[Located]]:
    return [share if index == rank else () for index, share in enumerate(ranges)]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What the mailbox holds for the driver.

    Attributes:
        known: the number of the order that it has; -1 after a restart.
        answers: one per rank when one attempt's ranks have all answered, else None.
        attempt: whose answers they are; "" while they are not whole.
        failed: the first answer of a rank that failed, while others have not answered.
        ready: ranks that reported for work, by attempt.
        answered: ranks of the newest attempt that answered.
        needed: whether a rank asked for the bytes of the checkpoint that the order starts from.
        asked: whether a rank asked what is kept of the order's round.
        held: epochs that a rank wants to be kept.
        early: the weights at the start of the order's last epoch, until the driver took them.
        progress: rank 0's (visits done, of).
        silent_s: per rank, seconds since its last sign of life.
    """

    known: int
    answers: list[Any] | None
    attempt: str
    failed: Failed | None
    ready: dict[str, list[int]]
    answered: list[int]
    needed: bool
    asked: bool
    held: SentPartial | None
    early: np.ndarray | None
    progress: tuple[int, int]
    silent_s: dict[int, float]
