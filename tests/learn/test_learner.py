from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from raysubset.core.keys import derive_key
from raysubset.errors import Stopped
from raysubset.learn.checkpoint import CheckpointRef, write_checkpoint
from raysubset.learn.learner import EpochTrace, Learner, TrainOrder
from raysubset.learn.problem import Problem
from tests.learn.ranks import CASES, CPU, alone, as_rank, flat, in_ranks, never, order_of, outcome
from tests.small_runs import problem


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two real DDP ranks, and one, made of every case."""
    folder = tmp_path_factory.mktemp("gloo")
    in_ranks(as_rank, folder, 2)
    return folder


def loaded(folder: Path, case: str, world: int) -> list[dict[str, Any]]:
    files = [folder / f"{case}-{world}-{rank}.pt" for rank in range(world)]
    return [torch.load(file, weights_only=True) for file in files]


def united(per_rank: list[dict[str, Any]]) -> list[EpochTrace]:
    traces = [[as_trace(seen) for seen in rank["traces"]] for rank in per_rank]
    return [EpochTrace.union(list(epoch)) for epoch in zip(*traces, strict=True)]


def as_trace(seen: dict[str, Any]) -> EpochTrace:
    return EpochTrace(**{k: v.numpy() if hasattr(v, "numpy") else v for k, v in seen.items()})


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_ranks_played_in_turn_give_the_bits_of_ddp(gloo: Path, case: str, world: int):
    played, real = alone(case, world), loaded(gloo, case, world)
    assert flat(real[0]["weights"]) == flat(played["weights"])
    for rank in real:  # the optimizer is every rank's own, and all are the same
        assert flat(rank["trainer"]) == flat(played["trainer"])
    both = [
        flat([vars(as_trace(t)) for t in played["traces"]]),
        flat(list(map(vars, united(real)))),
    ]
    assert both[0].keys() == both[1].keys()
    for name, value in both[0].items():
        np.testing.assert_array_equal(both[1][name], value, err_msg=name)


def test_every_case_trains_and_no_two_end_alike():
    ends = [str(flat(alone(case, world)["weights"])) for case in CASES for world in (1, 2)]
    assert len(set(ends)) == len(ends)


def trained(the_problem: Problem, order: TrainOrder, world: int = 2) -> dict[str, Any]:
    learner = Learner(the_problem, CPU, world=world)
    return flat(outcome(learner, learner.train(order, never)))


@pytest.mark.parametrize("case", ["convnet", "weighted"])
def test_the_order_in_which_ids_were_chosen_does_not_matter_to_training(case: str):
    options, how = CASES[case]
    order = order_of(problem(**options), **how)
    shuffle = np.random.default_rng(0).permutation(order.ids_EK.shape[1])
    weights = None if order.weights_K is None else order.weights_K[shuffle]
    other = replace(order, ids_EK=order.ids_EK[:, shuffle], weights_K=weights)
    assert trained(problem(**options), order) == trained(problem(**options), other)


@pytest.mark.parametrize("case", ["convnet", "dropout"])
def test_a_fresh_learner_gives_the_same_bits_whatever_was_drawn_before(case: str):
    options, how = CASES[case]
    torch.manual_seed(1)
    first = trained(problem(**options), order_of(problem(**options), **how))
    torch.manual_seed(2)
    torch.rand(5)
    assert trained(problem(**options), order_of(problem(**options), **how)) == first


def test_training_leaves_the_global_stream_as_it_was():
    options, how = CASES["dropout"]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    trained(problem(**options), order_of(problem(**options), **how))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_draws_anew_in_every_batch_and_epoch():
    learner = Learner(problem(model__name="tests.learn.ranks:noisy"), CPU, world=1)
    masks: list[bytes] = []
    dropout = next(m for m in learner.model.modules() if isinstance(m, torch.nn.Dropout))
    dropout.register_forward_hook(lambda _, __, out: masks.append((out[:8] == 0).numpy().tobytes()))
    learner.train(order_of(learner.problem, size=48), never)
    assert len(set(masks)) == len(masks) == 9


def test_another_seed_is_another_run():
    first, second = problem(seed=0), problem(seed=1)
    same_parts = replace(second, parts=first.parts, normalize=first.normalize)
    order = order_of(first)
    a, b = trained(first, order), trained(same_parts, order)
    assert all(a[k] != b[k] for k in a if k.endswith("1.weight"))
    # not the first weights alone: order and augmentation have the seed too
    learner, other = Learner(first, CPU, world=1), Learner(same_parts, CPU, world=1)
    other.model.load_state_dict(learner.model.state_dict())
    for each in (learner, other):
        each.train(order, never)
    assert flat(learner.weights()) != flat(other.weights())


def test_f37_ids_beyond_float32_train_as_small_ones_do():
    """2^40 + i and 2^40 + i + 1 are one number in float32; the order is one of rows, not of ids."""
    small = problem(training__augment="none")
    pool = replace(small.parts.pool, id_N=small.parts.pool.id_N + 2**40)
    large = replace(small, parts=replace(small.parts, pool=pool))
    order = order_of(small)
    assert trained(large, order_of(large)) == trained(small, order)


def test_a_learner_fixes_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            Learner(replace(problem(), threads=threads), CPU, world=1)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_learner_that_is_reset_or_loaded_goes_on_as_a_fresh_one_would(tmp_path: Path):
    the_problem = problem(model__name="convnet")
    first, second = order_of(the_problem), order_of(the_problem, size=30, slices=2)
    learner = Learner(the_problem, CPU, world=2)
    learner.train(first, never)
    files, _ = write_checkpoint(tmp_path, learner.snapshot(0))
    learner.train(second, never)
    straight = flat(outcome(learner, []))

    resumed = Learner(the_problem, CPU, world=2)
    resumed.train(second, never)  # whatever it held before
    resumed.load(CheckpointRef(path=str(tmp_path), files=files))
    assert resumed.round == 0
    resumed.train(second, never)
    assert flat(outcome(resumed, [])) == straight

    resumed.reset()
    resumed.train(first, never)
    resumed.train(second, never)
    assert flat(outcome(resumed, [])) == straight


def test_an_interrupted_learner_stands_after_no_round():
    learner = Learner(problem(), CPU, world=1)
    learner.round = 4

    def stop(done: int, of: int) -> None:
        if done:
            raise Stopped("asked to")

    with pytest.raises(Stopped):
        learner.train(order_of(learner.problem), stop)
    assert learner.round == -1


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_the_mean_over_the_global_batch(world: int, weighted: bool):
    """One batch of 43, no BatchNorm: lr * gradient is what one step without momentum moves."""
    the_problem = problem(
        model__name="tests.learn.ranks:plain",
        training__batch_size=64,
        training__momentum=0.0,
        training__nesterov=False,
        training__weight_decay=0.0,
        training__augment="none",
    )
    order = order_of(the_problem, epochs=1, weighted=weighted)
    learner = Learner(the_problem, CPU, world=world)
    before = learner.weights()
    trace = learner.train(order, never)[0]
    after = learner.weights()

    model, _ = the_problem.build()
    content, label = the_problem.parts.pool.take(order.ids_EK[0])
    logits = model(the_problem.normalize(torch.from_numpy(content)))
    loss_K = cross_entropy(logits, torch.from_numpy(label), reduction="none")
    weight_K = torch.ones(43) if order.weights_K is None else torch.from_numpy(order.weights_K)
    (loss_K * weight_K).mean().backward()
    for name, parameter in model.named_parameters():
        moved = (before[name] - after[name]) / trace.lr
        assert parameter.grad is not None
        # float32: the difference of weights near 0.1 keeps 1e-8, over a rate near 0.05
        torch.testing.assert_close(moved, parameter.grad, rtol=1e-4, atol=1e-6)


@given(st.data(), st.integers(1, 5))
def test_the_union_of_ranks_depends_neither_on_their_order_nor_on_their_number(
    data: st.DataObject, world: int
):
    one, traces = per_rank_traces(1)[0], per_rank_traces(world)
    order = data.draw(st.permutations(range(world)))
    whole = EpochTrace.union([traces[rank] for rank in order])
    for name, value in vars(EpochTrace.union([one])).items():
        np.testing.assert_array_equal(vars(whole)[name], value, err_msg=name)
    assert np.all(np.diff(whole.row_K) > 0)
    by_row = dict(zip(one.row_K, one.loss_K, strict=True))
    np.testing.assert_array_equal(whole.loss_K, [by_row[row] for row in whole.row_K])


def per_rank_traces(world: int) -> list[EpochTrace]:
    draw = np.random.default_rng(1)
    row_K = draw.permutation(100)[:37]
    values = draw.normal(size=37).astype(np.float32)
    return [
        EpochTrace(
            epoch=3,
            lr=0.1,
            row_K=row_K[rank::world],
            loss_K=values[rank::world],
            margin_K=-values[rank::world],
            correct_K=values[rank::world] > 0,
        )
        for rank in range(world)
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_what_a_trace_saw_is_what_the_model_gave_at_the_visit(smoothing: float):
    """A rate so small that no weight moves, and no BatchNorm: the losses can be computed again."""
    the_problem = problem(
        model__name="tests.learn.ranks:plain",
        training__lr=1e-30,
        training__augment="none",
        training__label_smoothing=smoothing,
    )
    order = order_of(the_problem, epochs=2)
    learner = Learner(the_problem, CPU, world=2)
    for trace in learner.train(order, never):
        trace = EpochTrace.union([trace])
        ids = the_problem.parts.pool.id_N[trace.row_K]
        np.testing.assert_array_equal(ids, np.sort(order.ids_EK[0]))
        content, label = the_problem.parts.pool.take(ids)
        with torch.no_grad():
            logits = learner.model(the_problem.normalize(torch.from_numpy(content)))
        plain_loss = cross_entropy(logits, torch.from_numpy(label), reduction="none").numpy()
        own = logits[range(len(label)), label]
        others = logits.clone()
        others[range(len(label)), label] = -torch.inf
        np.testing.assert_allclose(trace.loss_K, plain_loss, rtol=1e-5)
        np.testing.assert_allclose(trace.margin_K, own - others.amax(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(trace.correct_K, logits.argmax(1).numpy() == label)


def test_an_epoch_visits_every_chosen_id_once_in_an_order_of_its_own():
    learner = Learner(problem(), CPU, world=2)
    traces = learner.train(order_of(learner.problem), never)
    orders = [tuple(trace.row_K) for trace in traces]
    assert len(set(orders)) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1
    assert all(len(set(order)) == 43 for order in orders)


def test_go_on_is_asked_before_every_batch_with_the_visits_done():
    asked: list[tuple[int, int]] = []
    learner = Learner(problem(), CPU, world=2)
    learner.train(order_of(learner.problem, epochs=2), lambda done, of: asked.append((done, of)))
    assert asked == [(done, 86) for done in (0, 16, 32, 43, 59, 75)]


def test_the_rate_follows_the_visits_of_the_whole_run():
    learner = Learner(problem(training__warmup=0.0), CPU, world=1)
    rates = [trace.lr for trace in learner.train(order_of(learner.problem), never)]
    # the last batch of an epoch has its middle at (epochs done + 1) * 43 - 5.5 visits of 344
    visits = [int(86 + (index + 1) * 43 - 5.5) for index in range(3)]
    wanted = [0.05 * 0.5 * (1 + np.cos(np.pi * v / 344)) for v in visits]
    np.testing.assert_allclose(rates, wanted, rtol=1e-12)


def test_augmentation_depends_on_epoch_and_id_alone():
    """Whatever the batch, the rank or the rest of the subset."""
    augment = problem().augment
    assert augment is not None
    pool = problem().parts.pool
    content, ids = torch.from_numpy(pool.content.copy()), torch.from_numpy(pool.id_N.copy())
    key = derive_key(0, "augment", 5)
    whole = augment(content, ids, key)
    some = torch.tensor([3, 50, 9])
    assert torch.equal(augment(content[some], ids[some], key), whole[some])
    assert not torch.equal(augment(content, ids, derive_key(0, "augment", 6)), whole)


@settings(max_examples=8)
@given(size=st.integers(4, 60), batch=st.integers(4, 40), world=st.integers(1, 2))
def test_f37_any_size_of_subset_trains_without_losing_or_repeating_a_row(
    size: int, batch: int, world: int
):
    """The last batch may hold one row: BatchNorm must never see a slice of one."""
    the_problem = problem(training__batch_size=batch)
    learner = Learner(the_problem, CPU, world=world)
    trace = learner.train(order_of(the_problem, size=size, epochs=1), never)[0]
    assert len(set(trace.row_K)) == len(trace.row_K) == size
    assert np.isfinite(trace.loss_K).all()
