"""One rank of the standing crew: waits for orders, does them, answers.

The model and the optimizer stay here between rounds, and so do the rows that were trained on, until
others are; weights move only when scoring actors need them. This runs inside Ray Train's worker;
the work itself is `Learner` and `Scorer`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray
import ray.train
import ray.train.collective
from torch.distributed import distributed_c10d

from raysubset.cluster.blocks import CARRY_S, Located, Reader, carried, fetched, source_of
from raysubset.cluster.carrying import Carrier
from raysubset.cluster.devices import device_of_rank
from raysubset.cluster.keeping import Together, agreed
from raysubset.cluster.last_epoch import LastEpoch, sender
from raysubset.cluster.memory import Meter
from raysubset.cluster.names import run_id
from raysubset.cluster.orders import (
    At,
    Choose,
    Count,
    Failed,
    Lost,
    Order,
    Posted,
    Score,
    Stop,
    Train,
)
from raysubset.cluster.sums import distributed, share_buffers
from raysubset.errors import CrewLost, RaySubsetError, Stopped
from raysubset.learn.checkpoint import CheckpointRef, Sent, Snapshot, write_checkpoint
from raysubset.learn.choosing import choose
from raysubset.learn.learner import EpochTrace, GoOn, Learner
from raysubset.learn.partial import Partial, partial_of
from raysubset.learn.scoring import RangeCounts, RangeOutput, Scorer
from raysubset.logs import fields, reshape

logger = logging.getLogger(__name__)
POLL_S = 5.0
TICK_S = 0.5
TOLD = "the driver asked to stop."
ASK_S = 0.2
MAILBOX_S = 120.0  # the mailbox may be restarting; beyond that the driver is gone too


def serve(config: dict[str, Any]) -> None:
    """Serve orders until `Stop`; this is the train loop of the one long TorchTrainer.fit()."""
    context = ray.train.get_context()
    rank = context.get_world_rank()
    # Ray Train gives its workers a root logger of its own, whatever the application asked for.
    reshape(every=config["json"])
    mailbox = config["mailbox"]
    # All ranks of one start of the group share a name: a dead group's answers never mix in.
    attempt = ray.train.collective.broadcast_from_rank_zero(uuid.uuid4().hex)
    problem = carried(config["problem"][0])
    member = Rank(problem, rank, context.get_world_size(), mailbox, attempt)
    birth, here = member.report(), ray.get_runtime_context()
    while True:
        now, posted = _get(mailbox.next.remote(rank, member.done, POLL_S))
        if now != birth:
            birth = member.report()
        if posted is None:
            continue
        if isinstance(posted.order, Stop):
            member.close()
            return
        with fields(node_id=here.get_node_id(), actor_id=here.get_actor_id()):
            member.answer(posted)


class Rank:
    """What a rank holds: a learner, a scorer on the same model, and where in a run it is.

    It holds no part of the data but the rows of the last training order.
    """

    def __init__(
        self, problem: Any, rank: int, world: int, mailbox: Any, attempt: str = ""
    ) -> None:
        """Build the model on this worker's device and join the group."""
        device = device_of_rank()
        self.rank, self.world, self.mailbox, self.attempt = rank, world, mailbox, attempt
        self.learner = Learner(
            problem,
            device,
            world=world,
            rank=rank,
            wrap=lambda model: distributed(model, problem, device),
        )
        self.scorer = Scorer(problem, device, self.learner).warm()
        self.reader, self.meter = Reader(), Meter()
        self._rows: Sequence[Any] = ()
        self.at: tuple[str, int] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-copy")
        self._copying: Future[Snapshot] | None = None
        self._tick: Any = None
        self._ticked = 0.0
        self._number = -1
        self._last: int | None = None
        self._answered: tuple[int, Any] | None = None
        self._saved: tuple[int, Any] | None = None

    @property
    def done(self) -> int:
        """The number of the last order that was answered; -1 before the first."""
        return -1 if self._answered is None else self._answered[0]

    def report(self) -> str:
        """Tell a mailbox that knows nothing who is here, and what was answered and saved last.

        Returns the birth of the mailbox that heard the first of it.
        """
        calls = [self.mailbox.hello.remote(self.attempt, self.rank)]
        if self._answered is not None:
            calls.append(self._tell(*self._answered))
        if self._saved is not None:
            calls.append(self.mailbox.save.remote(*self._saved))
        return _get(calls)[0]

    def answer(self, posted: Posted) -> None:
        """Do an order and answer it."""
        self._number, self._last, self._tick = posted.number, None, None
        with fields(rank=self.rank, **_place_of(posted.order)):
            start = time.perf_counter()
            self._answered = posted.number, self._do(posted.order)
            logger.info("order %d done in %.2f s", posted.number, time.perf_counter() - start)
        _get(self._tell(*self._answered))

    def _tell(self, number: int, value: Any) -> Any:
        return self.mailbox.answer.remote(number, self.attempt, self.rank, value)

    def _do(self, order: Order) -> Any:
        """Return the answer to an order; errors on purpose travel, others end the group."""
        try:
            if isinstance(order, Train):
                return self._train(order)
            if isinstance(order, Score):
                return self._score(order)
            if isinstance(order, Choose):
                return self._choose(order)
            assert isinstance(order, Count)
            return self._count(order)
        except RaySubsetError as error:
            self.at = None
            return Failed(error=error)

    def close(self) -> None:
        """Wait for the last checkpoint to be written."""
        self._copier.shutdown()
        self._writer.shutdown()

    def _train(self, order: Train) -> Any:
        came = time.perf_counter()
        carrier = self._carrier(order)
        kept = agreed(order.begun, self.world, carrier.kept if carrier else partial_of)
        if kept is not None:
            self._let_change()
            self.learner.load((carrier and carrier.checkpoint) or kept.checkpoint)
        elif not self._stand_at(order.at):
            return Lost(at=order.at) if order.at else None
        self._let_change()
        self._hold(order)
        ready = time.perf_counter()
        start = ready - (kept.seconds if kept else 0.0)
        send = sender(self.mailbox, _get, self._number, self.attempt) if self.rank == 0 else None
        last = LastEpoch(order, self.learner.model, send)
        traces = self._epochs(order, kept, carrier, last)
        share_buffers(self.learner.model)
        trained = time.perf_counter()
        self.at = (order.run, order.round)
        visits, copied = order.work.visits, self._save(order) if self.rank == 0 else None
        counts = self._counts(order.validation, lambda *_: self._go_on(visits, visits))
        done = time.perf_counter()
        last.wait()
        return {
            "kept": kept,
            "traces": traces,
            "counts": counts,
            "seconds_rows": ready - came,
            "seconds_training": trained - start,
            "seconds_training_beside": last.seconds(trained),
            "seconds_evaluation": done - trained,
            "memory": self.meter.figures,
            "weights": copied.result().flat if copied and order.send_weights else None,
        }

    def _hold(self, order: Train) -> None:
        """Have the order's rows; those of the order before go first, if they are others."""
        if self._rows == order.rows:
            return
        visits, self._rows = order.work.visits, ()
        self.learner.hold([])
        # A stop is heeded at the first batch, with the other ranks.
        self.learner.hold(fetched(order.rows, lambda: self._told_to_stop(0, visits)))
        self._rows = order.rows

    def _carrier(self, order: Train) -> Carrier | None:
        """Return what carries kept epochs, where this rank does not see the driver's folder."""
        if order.token is None or order.token.is_seen():
            return None
        return Carrier(self.mailbox, carried, self._number, self.attempt, self.rank)

    def _epochs(
        self, order: Train, kept: Partial | None, carrier: Carrier | None, last: LastEpoch
    ) -> list[EpochTrace]:
        """Train the epochs that are not kept; keep those that are finished, a stop's included."""
        together = Together(
            order.begun,
            kept,
            lambda: self.learner.snapshot(-1),
            self._writer,
            rank=self.rank,
            world=self.world,
            device=self.learner.device,
            write=carrier.write if carrier else None,
        )
        done = kept.epochs if kept else 0

        def epoch_done(trace: EpochTrace) -> None:
            together.epoch_done(trace)
            last.done(trace.epoch + 1 - order.work.epochs.start)

        last.done(done)
        try:
            return self.learner.train(
                order.work, self._go_on_together, done=done, epoch_done=epoch_done
            )
        except Stopped:
            together.stop()
            raise

    def _score(self, order: Score) -> Any:
        if not self._stand_at(order.at):
            return Lost(at=order.at)
        mine, outputs, busy_s = order.ranges[self.rank], list[RangeOutput](), 0.0
        for index, located in enumerate(mine):
            self._go_on(index, len(mine))
            rows, source = located.rows, source_of(located)
            given = None if self.scorer.remembers(rows, source) else self.reader.rows(located)
            start, wide = time.perf_counter(), order.embeddings
            outputs.append(self.scorer.score(rows, given, embeddings=wide, source=source))
            busy_s += time.perf_counter() - start
            del given  # else a block could not leave the store while the next one comes
        self.reader.forget()
        return {"outputs": outputs, "busy_s": busy_s}

    def _choose(self, order: Choose) -> Any:
        if self.rank != 0:
            return None
        device = self.learner.device
        return choose(order.choice, order.outputs, device, lambda _, *at: self._go_on(*at))

    def _count(self, order: Count) -> Any:
        if not self._stand_at(order.at):
            return Lost(at=order.at) if order.at else None
        return self._counts(order.ranges, self._go_on)

    def _counts(self, ranges: Sequence[Sequence[Located]], go_on: GoOn) -> list[RangeCounts]:
        counts: list[RangeCounts] = []
        mine = ranges[self.rank]
        for index, located in enumerate(mine):
            go_on(index, len(mine))
            counts.append(self.scorer.count(located.rows, self.reader.rows(located)))
        self.reader.forget()
        return counts

    def _stand_at(self, at: At | None) -> bool:
        """Bring the learner to a point of a run; False if its state is nowhere."""
        if at is None:
            self._let_change()
            self.learner.reset()
        elif self.at != (at.run, at.round):
            if at.checkpoint is None:
                return False
            checkpoint = self._readable(at, at.checkpoint)
            self._let_change()
            self.learner.load(checkpoint)
            self.at = (at.run, at.round)
        return True

    def _readable(self, at: At, checkpoint: CheckpointRef) -> CheckpointRef:
        """Return a checkpoint that this rank can read, by value where it does not see the folder.

        The rank waits in place: the others may be in a collective already, and wait for it.
        """
        if at.token is None or at.token.is_seen():
            return checkpoint
        content, end = at.content, time.monotonic() + CARRY_S
        while not content:
            if time.monotonic() > end:
                raise CrewLost(f"the driver did not send checkpoint {checkpoint.path} to a rank.")
            _get(self.mailbox.need.remote(self._number))
            time.sleep(ASK_S)
            _, posted = _get(self.mailbox.next.remote(self.rank, self._number - 1, POLL_S))
            if posted is not None and posted.number != self._number:
                raise Stopped(TOLD)
            now = None if posted is None else posted.order.at
            content = () if now is None else now.content
        return carried(content[0])

    def _let_change(self) -> None:
        """Leave the point where the state stands, once what is copied of it is whole."""
        self.at = None
        if self._copying is not None:
            self._copying.result()
        self._copying = None

    def _save(self, order: Train) -> Future[Snapshot]:
        """Copy the state in a thread beside evaluation, which changes nothing; then write it."""
        number = self._number
        self._copying = copying = self._copier.submit(self.learner.snapshot, order.round)
        seen = order.token is None or order.token.is_seen()

        def write() -> None:
            try:
                snapshot = copying.result()
                told: Any = write_checkpoint(order.folder, snapshot) if seen else Sent.of(snapshot)
            except Exception as error:  # a thread's error must reach the driver, whatever it is
                # (a full disk is an OSError, a RuntimeError or a SafetensorError)
                told = f"{error or type(error).__name__} ({order.folder})"
            self._saved = number, told
            _get(self.mailbox.save.remote(number, told))

        self._writer.submit(write)
        return copying

    def _go_on(self, done: int, of: int) -> None:
        """Stop between two pieces of work that no other rank waits for."""
        if self._told_to_stop(done, of):
            raise Stopped(TOLD)

    def _go_on_together(self, done: int, of: int) -> None:
        """Stop all ranks before the same batch; those of one that left would wait for its gradient.

        Rank 0 announces the last batch before it gives its share of it, so no rank can be past
        it without having heard.
        """
        told, key = self._told_to_stop(done, of), f"raysubset-stop-{self._number}"
        if self.world == 1 and told:
            raise Stopped(TOLD)
        if self.world > 1 and self._last is None:
            store = distributed_c10d._get_default_store()
            if self.rank == 0 and told:
                store.set(key, str(done))
                self._last = done
            elif self.rank > 0 and store.check([key]):
                self._last = int(store.get(key))
        if self._last is not None and done > self._last:
            raise Stopped(TOLD)

    def _told_to_stop(self, done: int, of: int) -> bool:
        """Send a sign of life at most every TICK_S, without waiting; return its last answer."""
        now = time.monotonic()
        if now - self._ticked < TICK_S:
            return False
        if self._tick is not None and not ray.wait([self._tick], timeout=0)[0]:
            return False  # a slow mailbox: its answer is worth more than a second question
        told = self._tick is not None and bool(_get(self._tick))
        self.meter.look()
        self._ticked, self._tick = now, self.mailbox.tick.remote(self.rank, done, of)
        return told


def _place_of(order: Order) -> dict[str, Any]:
    """Return what an order is for, as fields of what is logged meanwhile."""
    if isinstance(order, Train):
        return {"run": run_id(order.run), "round": order.round, "stage": "training"}
    if isinstance(order, Count):
        at = order.at
        return {"stage": "evaluation"} | ({"run": run_id(at.run), "round": at.round} if at else {})
    assert isinstance(order, (Score, Choose))
    stage = "scoring" if isinstance(order, Score) else "greedy"
    # It is of the round after the weights that it reads.
    return {"run": run_id(order.at.run), "round": order.at.round + 1, "stage": stage}


def _get(refs: Any) -> Any:
    return ray.get(refs, timeout=MAILBOX_S)
