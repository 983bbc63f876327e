"""Whatever dies, and whenever: the crew gives what it gives undisturbed, or says what is lost."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raysubset.cluster.orders import At, Count, Score, Train
from raysubset.errors import CrewLost, DataError, RunFolderError
from raysubset.learn.checkpoint import CheckpointRef
from raysubset.learn.learner import TrainOrder
from tests.cluster.relay import Faults, Ref, Relay, ranges, silent

ROUNDS = 3
RUN = "run"
HUNG_S = 0.08


def train(at: At | None, round_: int, token: Any = None) -> Train:
    work = TrainOrder(
        ids_EK=np.array([[round_, round_ + 1]]),
        weights_K=None,
        epochs=range(round_, round_ + 1),
        visits_before=0,
        total_visits=2 * ROUNDS,
    )
    folder = f"/rounds/{round_}"
    return order(at, round_, work, folder, token=token)


def order(
    at: At | None,
    round_: int,
    work: TrainOrder,
    folder: str,
    rows: str | None = None,
    token: Any = None,
) -> Train:
    return Train(
        at=at,
        run=RUN,
        round=round_,
        work=work,
        rows=(rows or f"rows of {round_}",),
        validation=ranges("validation", 3),
        folder=folder,
        send_weights=False,
        token=token,
    )


def play(relay: Relay) -> list[Any]:
    """Do what the engine does with a crew that scores in place; return all that it gave.

    A checkpoint is waited for in a thread while the crew scores, as the ledger does.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as ledger:
        return _play(relay, ledger)


def _play(relay: Relay, ledger: ThreadPoolExecutor) -> list[Any]:
    crew, out = relay.crew, list[Any]()
    at: At | None = None
    for round_ in range(ROUNDS):
        if at is not None:
            pending = ledger.submit(settled, relay, at)
            score = Score(at=at, ranges=ranges(), embeddings=True)
            out.append([a["outputs"] for a in crew.exchange(score, silent, "scoring")])
            at = pending.result()
            out.append(at.checkpoint.files if at.checkpoint else None)
        answers = crew.exchange(train(at, round_, relay.token), silent, "training")
        out.append([answer["counts"] for answer in answers])
        at = At(run=RUN, round=round_, token=relay.token)
    assert at is not None
    out.append(
        crew.exchange(Count(at=settled(relay, at), ranges=ranges("test", 3)), silent, "evaluating")
    )
    return out


def settled(relay: Relay, at: At) -> At:
    files, _ = relay.crew.saved(RUN, at.round)
    path = f"/rounds/{at.round}"
    return replace(at, checkpoint=Ref(path=path, files=files))


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with Relay(monkeypatch, Faults()) as relay:
        return play(relay)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["mailbox", "rank0", "rank1"])
def test_one_loss_at_any_call_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any], what: str, when: str
):
    for at in range(1, 60):
        faults = Faults(when, **{what: at})
        with Relay(monkeypatch, faults) as relay:
            assert play(relay) == undisturbed, f"{what} was lost {when} its call {at}"
            disk = {f"/rounds/{r}" for r in range(ROUNDS)}
            assert set(relay.disk.files) == disk
        if not faults.happened:
            break
    assert not faults.happened
    # one hello, one answer per order, and rank 0's word that each checkpoint is written
    least = {"mailbox": 2 + 6 + 12 + ROUNDS, "rank0": 1 + 6 + ROUNDS, "rank1": 1 + 6}
    assert at > least[what]


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_losses_change_nothing_either(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any], when: str
):
    for first, second in itertools.product(range(1, 30, 3), range(1, 12)):
        for lost in ({"mailbox": first, "rank0": second}, {"rank0": second, "rank1": first}):
            with Relay(monkeypatch, Faults(when, **lost)) as relay:
                assert play(relay) == undisturbed, f"{lost}, {when} the call"


@pytest.mark.parametrize("blind", [{0}, {1}, {0, 1}])
@pytest.mark.parametrize("what", ["mailbox", "rank0", "rank1"])
def test_ranks_that_do_not_see_the_run_folder_change_nothing_whatever_is_lost(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any], what: str, blind: set[int]
):
    for when, at in itertools.product(("before", "after"), range(1, 40)):
        with Relay(monkeypatch, Faults(when, **{what: at}), blind=blind) as relay:
            assert play(relay) == undisturbed, f"{what} was lost {when} its call {at}"
            assert set(relay.disk.files) == {f"/rounds/{r}" for r in range(ROUNDS)}


@pytest.mark.parametrize("what", ["mailbox", "rank0", "rank1"])
def test_f05_one_that_hangs_at_any_call_is_ended_and_started_again_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any], what: str
):
    for at in range(2, 60):  # the first call is a rank's hello: who hangs there has not started
        faults = Faults(hangs=True, **{what: at})
        with Relay(monkeypatch, faults, max_failures=99, call_timeout_s=HUNG_S) as relay:
            assert play(relay) == undisturbed, f"{what} hung before its call {at}"
        if not faults.happened:
            break
    assert not faults.happened and at > 6


def test_f05_a_crew_that_hangs_again_and_again_is_given_up_by_rank_and_seconds(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("raysubset.cluster.crew.STOP_S", 0.1)
    faults = Faults(hangs=True, rank1=2)
    with Relay(monkeypatch, faults, max_failures=0, call_timeout_s=HUNG_S) as relay:
        told = r"no sign of life from rank 1 for \d+ s; the rounds so far are kept.*--resume"
        with pytest.raises(CrewLost, match=told):
            play(relay)


def test_a_lost_group_is_not_started_for_ever(monkeypatch: pytest.MonkeyPatch):
    faults = Faults(rank1=2)
    with Relay(monkeypatch, faults, max_failures=0) as relay:
        with pytest.raises(CrewLost, match=r"the training group ended: .*rank 1: Killed"):
            play(relay)
        assert len(relay.trainers[0].groups) == 1


def test_a_refused_order_reaches_the_driver_as_itself_and_the_crew_goes_on(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]
):
    with Relay(monkeypatch, Faults()) as relay:
        with pytest.raises(DataError, match="no tuning part"):
            relay.crew.exchange(Count(at=None, ranges=ranges("tuning", 3)), silent, "evaluating")
        assert play(relay) == undisturbed
        assert len(relay.trainers[0].groups) == 1


def test_an_unexpected_error_ends_in_a_sentence_with_the_rank_and_the_cause(
    monkeypatch: pytest.MonkeyPatch,
):
    with Relay(monkeypatch, Faults(), max_failures=2) as relay:
        nowhere = At(run=RUN, round=0, checkpoint=CheckpointRef(path="/nowhere", files={}))
        with pytest.raises(CrewLost, match=r"rank [01]: KeyError: '/nowhere'.*--resume"):
            relay.crew.exchange(Count(at=nowhere, ranges=ranges("test", 3)), silent, "evaluating")
        assert len(relay.trainers[0].groups) == 3


def test_a_full_disk_is_told_whatever_the_writer_raises(monkeypatch: pytest.MonkeyPatch):
    with Relay(monkeypatch, Faults()) as relay:
        relay.disk.full_at = 2
        with pytest.raises(RunFolderError, match=r"round 1 .*no space left.*/rounds/1.*--resume"):
            play(relay)


def test_a_folder_used_again_by_the_same_crew_does_not_commit_the_old_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
):
    with Relay(monkeypatch, Faults()) as relay:
        relay.crew.exchange(train(None, 0), silent, "training")
        first = relay.crew.saved(RUN, 0)
        other = TrainOrder(
            ids_EK=np.array([[7, 8]]),
            weights_K=None,
            epochs=range(1),
            visits_before=0,
            total_visits=2,
        )
        again = order(None, 0, other, "/rounds/0")
        relay.crew.exchange(again, silent, "training")
        assert relay.crew.saved(RUN, 0) != first


def test_evaluating_the_start_leaves_no_false_idea_of_where_a_rank_is(
    monkeypatch: pytest.MonkeyPatch, undisturbed: list[Any]
):
    with Relay(monkeypatch, Faults()) as relay:
        relay.crew.exchange(train(None, 0), silent, "training")
        settled(relay, At(run=RUN, round=0))
        relay.crew.exchange(Count(at=None, ranges=ranges("test", 3)), silent, "evaluating")
        at = settled(relay, At(run=RUN, round=0))
        answers = relay.crew.exchange(train(at, 1), silent, "training")
        assert [answer["counts"] for answer in answers] == undisturbed[3]


def test_no_thread_is_left(monkeypatch: pytest.MonkeyPatch):
    before = set(threading.enumerate())
    with Relay(monkeypatch, Faults(rank0=3)) as relay:
        play(relay)
    late = {thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")}
    assert set(threading.enumerate()) - before - late == set()


def test_rows_that_a_rank_has_are_not_moved_again_and_others_go_before_new_ones_come(
    monkeypatch: pytest.MonkeyPatch,
):
    with Relay(monkeypatch, Faults(), world=1) as relay:
        for rows in ("these", "these", "others"):
            work = train(None, 0).work
            alone = replace(order(None, 0, work, "/rounds/0", rows), validation=((),))
            relay.crew.exchange(alone, silent, "training")
            relay.crew.saved(RUN, 0)
        assert relay.disk.held == [[], ("these",), [], ("others",)]
