"""Ranks that do not see the run folder keep a round's epochs too, whatever is lost meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.cluster import carrying, keeping
from raysubset.cluster.orders import Train
from raysubset.errors import Stopped
from raysubset.learn import partial as partial_module
from raysubset.learn.checkpoint import WEIGHTS, CheckpointRef, Files, Snapshot, file_hash
from raysubset.learn.learner import EpochTrace, TrainOrder
from raysubset.learn.partial import BEGUN, Open, Partial, partial_of, traces_of
from tests.cluster import relay as relay_module
from tests.cluster.relay import HERE, WAIT_S, Faults, Relay, digest, ranges, silent

EPOCHS = 4
BLIND = [(1, {0}), (2, {0}), (2, {1}), (2, {0, 1})]


class Here:
    """What the learners of a test tell, and when they are to be stopped."""

    def __init__(self, stop_in: int = -1) -> None:
        self.stop_in, self.reached = stop_in, threading.Event()
        self.trained: list[tuple[int, int]] = []

    def progress(self, stage: str, done: int, of: int) -> None:
        """Stop the run where it has come so far."""
        if self.reached.is_set():
            raise Stopped("asked to")


class Learner(relay_module.Learner):
    """A chain of hashes, a link an epoch, which can be kept."""

    here: Here

    def load(self, ref: CheckpointRef) -> None:
        if WEIGHTS not in ref.files:
            super().load(ref)
        elif ref.content is not None:
            self.state = ref.content[WEIGHTS].tobytes().decode()
        else:
            assert HERE.rank not in self.problem.blind, "it does not see the folder"
            self.state = (Path(ref.path) / WEIGHTS).read_text()

    def train(
        self, order: TrainOrder, go_on: Any, *, done: Any = 0, epoch_done: Any = None, **_: object
    ) -> list[EpochTrace]:
        traces = list[EpochTrace]()
        for index in range(done, len(order.epochs)):
            go_on(1000 * index, 4000)
            if index == self.here.stop_in:
                self._until_stopped(index, go_on)
            self.state = digest(self.state, index)
            self.here.trained.append((HERE.rank, index))
            traces.append(_trace(index, HERE.rank))
            epoch_done(traces[-1])
        return traces

    def _until_stopped(self, index: int, go_on: Any) -> None:
        self.here.reached.set()
        for batch in range(1, 1000):
            go_on(1000 * index + batch, 4000)
            time.sleep(0.01)
        raise AssertionError("nobody stopped it")


def _trace(epoch: int, rank: int) -> EpochTrace:
    row = np.array([rank])
    some = row.astype(np.float32)
    return EpochTrace(
        epoch=epoch, lr=0.1, row_K=row, loss_K=some, margin_K=some, correct_K=row == 0
    )


def write_state(folder: str | Path, snapshot: Snapshot) -> tuple[Files, float]:
    """Write the state of a chain of hashes as a checkpoint."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / WEIGHTS).write_text(snapshot.trainer["state"])
    return {WEIGHTS: file_hash(Path(folder) / WEIGHTS)}, 0.0


class Meeting:
    """Collectives of ranks that are threads."""

    def __init__(self, world: int) -> None:
        self.barrier, self.slots = threading.Barrier(world, timeout=WAIT_S), [None] * world

    def _met(self, value: Any) -> list[Any]:
        self.slots[HERE.rank] = value
        self.barrier.wait()
        met = list(self.slots)
        self.barrier.wait()
        return met

    def all_gather_object(self, seen: list[Any], value: Any) -> None:
        seen[:] = self._met(value)

    def gather_object(self, value: Any, parts: list[Any] | None) -> None:
        met = self._met(value)
        if parts is not None:
            parts[:] = met

    def broadcast(self, tensor: Any, _: int) -> None:
        tensor.copy_(self._met(tensor.clone())[0])


@contextmanager
def crew(
    patch: pytest.MonkeyPatch,
    here: Here,
    *,
    world: int = 1,
    blind: Collection[int] = (),
    faults: Faults | None = None,
) -> Generator[Relay]:
    patch.setattr(Learner, "here", here, raising=False)
    patch.setattr(relay_module, "Learner", Learner)
    patch.setattr(partial_module, "write_checkpoint", write_state)
    patch.setattr(keeping, "dist", Meeting(world))
    patch.setattr(carrying, "WAIT_S", 0.05)
    with Relay(patch, faults or Faults(), world=world, blind=blind) as relay:
        yield relay


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setattr(partial_module, "HOLD_S", 0)
    folder = tmp_path / "partial"
    folder.mkdir()
    (folder / BEGUN[0]).touch()
    return Open(folder=str(folder), key="k", every_s=0)


def order(relay: Relay, begun: Open) -> Train:
    return Train(
        at=None,
        run="run",
        round=0,
        work=TrainOrder(
            ids_EK=np.array([[0, 1]]),
            weights_K=None,
            epochs=range(EPOCHS),
            visits_before=0,
            total_visits=4000,
        ),
        rows=(),
        validation=ranges("validation", 3, world=relay.world),
        folder="/rounds/0",
        send_weights=False,
        begun=begun,
        token=relay.token,
    )


def stopped(relay: Relay, here: Here, begun: Open) -> None:
    with pytest.raises(Stopped):
        relay.crew.exchange(order(relay, begun), here.progress, "training")
    relay.crew.halt()


def finished(relay: Relay, begun: Open) -> tuple[Any, Partial | None]:
    answers = relay.crew.exchange(order(relay, begun), silent, "training")
    relay.crew.saved("run", 0)
    return [answer["counts"] for answer in answers], answers[0]["kept"]


def undisturbed(patch: pytest.MonkeyPatch, world: int, begun: Open) -> Any:
    with crew(patch, Here(), world=world) as relay:
        return finished(relay, replace(begun, folder="/nowhere"))[0]


@pytest.mark.parametrize("every_s", [0, 3600])
@pytest.mark.parametrize(("world", "blind"), BLIND)
@pytest.mark.parametrize("stop_in", [1, 3])
def test_a_stop_keeps_finished_epochs_and_no_other_crew_trains_them_again(
    monkeypatch: pytest.MonkeyPatch,
    begun: Open,
    world: int,
    blind: set[int],
    stop_in: int,
    every_s: float,
):
    begun = replace(begun, every_s=every_s)  # rare: what is held is sent by the stop itself
    if every_s:
        monkeypatch.setattr(partial_module.Keeper, "due", lambda _: True)
    whole = undisturbed(monkeypatch, world, begun)
    here = Here(stop_in)
    with crew(monkeypatch, here, world=world, blind=blind) as relay:
        stopped(relay, here, begun)
    kept = partial_of(begun)
    assert kept is not None and kept.epochs == stop_in
    assert [(t.epoch, len(t.row_K)) for t in traces_of(kept)] == [
        (epoch, world) for epoch in range(stop_in)
    ]
    again = Here()
    with crew(monkeypatch, again, world=world, blind=blind) as relay:
        assert finished(relay, begun) == (whole, kept)
    assert sorted(again.trained) == [
        (rank, epoch) for rank in range(world) for epoch in range(stop_in, EPOCHS)
    ]


def test_the_same_crew_goes_on_after_a_stop(monkeypatch: pytest.MonkeyPatch, begun: Open):
    whole = undisturbed(monkeypatch, 2, begun)
    here = Here(2)
    with crew(monkeypatch, here, world=2, blind={0, 1}) as relay:
        stopped(relay, here, begun)
        here.stop_in = -1
        here.trained.clear()
        assert finished(relay, begun)[0] == whole
    assert sorted(here.trained) == [(0, 2), (0, 3), (1, 2), (1, 3)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["mailbox", "rank0"])
def test_one_loss_at_any_call_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, begun: Open, tmp_path: Path, what: str, when: str
):
    monkeypatch.setattr(Faults, "COUNTED", (*Faults.COUNTED, "hold", "written", "give"))
    whole = undisturbed(monkeypatch, 1, begun)
    at = 0
    for at in itertools.count(1):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        (folder / BEGUN[0]).touch()
        faults, here = Faults(when, **{what: at}), Here()
        with crew(monkeypatch, here, blind={0}, faults=faults) as relay:
            mine = replace(begun, folder=str(folder))
            assert finished(relay, mine)[0] == whole, f"{what} was lost {when} its call {at}"
        if not faults.happened:
            break
        # The epoch in progress, and the one that was on its way.
        assert len(here.trained) <= EPOCHS + 2
    assert at > 1 + EPOCHS  # hello, and each epoch


def test_a_driver_that_cannot_write_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, begun: Open, caplog: pytest.LogCaptureFixture
):
    whole = undisturbed(monkeypatch, 1, begun)
    nowhere = replace(begun, folder="/proc/none")
    with crew(monkeypatch, Here(), blind={0}) as relay:
        assert finished(relay, nowhere)[0] == whole
    assert "finished epochs could not be kept: " in caplog.text
    assert "/proc/none" in caplog.text


def test_a_driver_that_does_not_answer_costs_epochs_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, begun: Open, caplog: pytest.LogCaptureFixture
):
    whole = undisturbed(monkeypatch, 1, begun)
    with crew(monkeypatch, Here(), blind={0}) as relay:
        monkeypatch.setattr(carrying, "CARRY_S", 0.1)
        monkeypatch.setattr(relay.crew, "_carry", lambda _: None)
        assert finished(relay, begun)[0] == whole
    assert "does not tell what is kept" in caplog.text
    assert "did not take them" in caplog.text
    assert partial_of(begun) is None


def test_epochs_that_only_some_ranks_have_are_trained_again(
    monkeypatch: pytest.MonkeyPatch, begun: Open
):
    whole = undisturbed(monkeypatch, 2, begun)
    here = Here(2)
    with crew(monkeypatch, here, world=2, blind={1}) as relay:
        stopped(relay, here, begun)
    again = Here()
    with crew(monkeypatch, again, world=2, blind={1}) as relay:
        monkeypatch.setattr(carrying.Carrier, "kept", lambda *_: None)
        assert finished(relay, begun) == (whole, None)
    assert len(again.trained) == 2 * EPOCHS
