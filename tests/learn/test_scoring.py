from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor, nn
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassStatScores,
)

from raysubset.core.factors import residual_of
from raysubset.errors import DataError, TrainingDiverged
from raysubset.learn.blocks import RangeRows
from raysubset.learn.learner import Learner
from raysubset.learn.local import part_ranges
from raysubset.learn.problem import Problem
from raysubset.learn.scoring import (
    RANGE_BATCHES,
    PartName,
    RangeCounts,
    RangeOutput,
    RowRange,
    Scorer,
    evaluation_of,
    merge_counts,
    ranges_of,
)
from tests.learn.ranks import CPU, flat, never, order_of
from tests.small_runs import problem

CONVNET = {"model__name": "convnet"}


def learned(**options: Any) -> Learner:
    """A learner whose weights and running statistics are no longer the first ones."""
    learner = Learner(problem(**options), CPU, world=2)
    learner.train(order_of(learner.problem), never)
    return learner


def scorer_at(learner: Learner) -> Scorer:
    scorer = Scorer(learner.problem, CPU)
    scorer.load(learner.weights())
    return scorer


def pool_ranges(the_problem: Problem) -> list[RowRange]:
    return part_ranges(the_problem, "pool")


def same_output(a: RangeOutput, b: RangeOutput) -> bool:
    arrays = [name for name, value in vars(a).items() if isinstance(value, np.ndarray)]
    assert set(arrays) == {"ids", "labels", "logits", "embeddings", "left_out"}
    equal = [vars(a)[name].tobytes() == vars(b)[name].tobytes() for name in arrays]
    return a.index == b.index and all(equal)


def oracle(learner: Learner, ids: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return (logits, input of the last Linear), row by row, in eval mode."""
    head = [m for m in learner.model.modules() if isinstance(m, nn.Linear)][-1]
    inputs: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, taken, __: inputs.append(taken[0].detach()))
    content, _ = learner.problem.parts.pool.take(ids)
    learner.model.eval()
    with torch.no_grad():
        rows = learner.problem.normalize(torch.from_numpy(content)).split(1)
        logits = torch.cat([learner.model(row) for row in rows])
    hook.remove()
    return logits, torch.cat(inputs)


@pytest.mark.parametrize("options", [{}, CONVNET])
def test_factors_are_those_of_the_model_in_eval_mode(options: dict[str, Any]):
    learner = learned(**options)
    for rows in pool_ranges(learner.problem):
        out = scorer_at(learner).score(rows)
        logits, embeddings = oracle(learner, rows.ids)
        # float32 sums in batches of 32 against single rows
        np.testing.assert_allclose(out.logits, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.embeddings, embeddings, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(out.labels, learner.problem.parts.pool.take(rows.ids)[1])
        residual = residual_of(torch.from_numpy(out.logits), torch.from_numpy(out.labels))
        wanted = torch.softmax(logits, 1)
        wanted[range(len(out.labels)), out.labels] -= 1
        np.testing.assert_allclose(residual, wanted, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(residual.sum(1), 0, atol=1e-6)


def test_scoring_leaves_weights_and_running_statistics_as_they_were():
    learner = learned(**CONVNET)
    before = flat(learner.weights())
    scorer = Scorer(learner.problem, CPU, learner)
    for rows in pool_ranges(learner.problem):
        scorer.score(rows)
        scorer.count(rows)
    assert flat(learner.weights()) == before


def test_scoring_in_place_does_not_disturb_the_training_that_follows():
    learner, undisturbed = learned(**CONVNET), learned(**CONVNET)
    Scorer(learner.problem, CPU, learner).score(pool_ranges(learner.problem)[0])
    for each in (learner, undisturbed):
        each.train(order_of(each.problem, epochs=1), never)
    assert flat(learner.weights()) == flat(undisturbed.weights())


@pytest.mark.parametrize("options", [{}, CONVNET])
def test_a_scorer_in_place_gives_the_bits_of_one_with_loaded_weights(options: dict[str, Any]):
    learner = learned(**options)
    in_place, own = Scorer(learner.problem, CPU, learner), scorer_at(learner)
    parts: tuple[PartName, ...] = ("pool", "validation", "test")
    for part in parts:
        for rows in part_ranges(learner.problem, part):
            assert same_output(in_place.score(rows), own.score(rows))
            a, b = in_place.count(rows), own.count(rows)
            assert (a.loss_sum, a.stat_C5.tolist()) == (b.loss_sum, b.stat_C5.tolist())


@cache
def scored() -> tuple[Scorer, list[RowRange], list[RangeOutput]]:
    """A scorer, the ranges of two parts, and their outputs in order."""
    learner = learned(**CONVNET)
    parts: tuple[PartName, ...] = ("validation", "pool")
    ranges = [rows for part in parts for rows in part_ranges(learner.problem, part)]
    scorer = scorer_at(learner)
    return scorer, ranges, [scorer.score(rows) for rows in ranges]


@given(st.lists(st.integers(0, 3), max_size=6))
def test_a_range_has_the_same_bits_whichever_ranges_are_asked_in_whatever_order(
    asked: list[int],
):
    scorer, ranges, whole = scored()
    for index in asked:
        assert same_output(scorer.score(ranges[index]), whole[index])


def test_without_embeddings_the_logits_are_the_same_bits():
    scorer, ranges, whole = scored()
    out = scorer.score(ranges[1], embeddings=False)
    assert out.embeddings.shape == (len(ranges[1].ids), 0)
    assert out.logits.tobytes() == whole[1].logits.tobytes()


def test_with_a_16_bit_backbone_the_head_and_the_residual_are_float32():
    learner = learned(training__precision="bf16", **CONVNET)
    out = scorer_at(learner).score(pool_ranges(learner.problem)[0])
    assert out.logits.dtype == out.embeddings.dtype == np.float32
    head = learner.model.get_submodule(learner.head.name)
    assert isinstance(head, nn.Linear)
    wanted = torch.from_numpy(out.embeddings) @ head.weight.T + head.bias
    np.testing.assert_allclose(out.logits, wanted.detach(), rtol=1e-5, atol=1e-6)
    rounded = torch.from_numpy(out.logits).bfloat16().float().numpy()
    assert (rounded != out.logits).mean() > 0.9  # not a bf16 product made wide afterwards


def test_f11_a_model_that_gives_nan_everywhere_names_the_first_ten_ids():
    learner = learned()
    with torch.no_grad():
        next(learner.model.parameters()).fill_(torch.nan)
    rows = pool_ranges(learner.problem)[1]
    with pytest.raises(TrainingDiverged) as caught:
        scorer_at(learner).score(rows)
    message = str(caught.value)
    assert f"NaN or infinity for {len(rows.ids)} rows of pool" in message
    assert str(rows.ids[:10].tolist()) in message and str(int(rows.ids[10])) not in message
    assert "--training.lr" in message and "--training.clip_norm" in message


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("skip", [False, True])
def test_f11_only_rows_that_are_not_finite_are_named_or_left_out(poison: float, skip: bool):
    learner = learned()
    learner.problem = replace(learner.problem, skip_bad_rows=skip)
    rows = pool_ranges(learner.problem)[0]
    scorer = scorer_at(learner)
    bad = rows.ids[[2, 40]].tolist()
    content, label_K = learner.problem.parts.pool.take(rows.ids)
    content = content.astype(np.float32)
    content[[2, 40]] = poison
    given = RangeRows(content=content, label_K=label_K)
    if not skip:
        said = rf"for 2 rows of pool, first ids \[{bad[0]}, {bad[1]}\].*--data\.on_bad_row skip"
        with pytest.raises(TrainingDiverged, match=said):
            scorer.score(rows, given)
        return
    out, whole = scorer.score(rows, given), scorer.score(rows)
    assert out.left_out.tolist() == bad and whole.left_out.tolist() == []
    assert out.ids.tolist() == [i for i in rows.ids.tolist() if i not in bad]
    for name in ("labels", "logits", "embeddings"):
        good = np.delete(getattr(whole, name), [2, 40], axis=0)
        np.testing.assert_array_equal(getattr(out, name), good)
    validation = part_ranges(learner.problem, "validation")[0]
    content, label_K = learner.problem.parts.validation.take(validation.ids)
    given = RangeRows(content=np.full(content.shape, poison, np.float32), label_K=label_K)
    with pytest.raises(TrainingDiverged, match="rows of validation"):
        scorer.score(validation, given)


def test_a_part_that_is_not_there_is_refused_by_name():
    scorer = Scorer(problem(), CPU)
    with pytest.raises(DataError, match=r"no tuning part; give one with --data\.tuning"):
        scorer.score(RowRange(part="tuning", index=0, ids=np.array([1])))


@given(st.sets(st.integers(0, 10**12), max_size=300), st.integers(1, 40))
def test_f37_ranges_cover_every_id_once_in_order(ids: set[int], batch_size: int):
    id_N = np.array(sorted(ids), dtype=np.int64)
    ranges = ranges_of("pool", id_N, batch_size)
    assert [rows.index for rows in ranges] == list(range(len(ranges)))
    assert [i for rows in ranges for i in rows.ids.tolist()] == id_N.tolist()
    assert all(len(rows.ids) == RANGE_BATCHES * batch_size for rows in ranges[:-1])
    assert all(0 < len(rows.ids) <= RANGE_BATCHES * batch_size for rows in ranges)


@given(st.data(), st.integers(2, 6), st.integers(1, 60), st.integers(1, 5))
def test_merged_counts_are_the_metrics_of_the_whole(
    data: st.DataObject, classes: int, size: int, parts: int
):
    labels = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    truth, guess = (np.array(data.draw(labels)) for _ in range(2))
    loss_N = np.arange(size) / 7
    counts = [
        RangeCounts(
            index=i, stat_C5=stat_scores(guess[s], truth[s], classes), loss_sum=loss_N[s].sum()
        )
        for i, s in enumerate(np.array_split(np.arange(size), min(parts, size)))
    ]
    merged = merge_counts(counts[::-1])
    for c, share in enumerate(evaluation_of(counts[::-1])["class_accuracy"]):
        own = guess[truth == c] == c
        assert share == (pytest.approx(own.mean(), abs=1e-12) if len(own) else None)
    assert merged["examples"] == size
    assert merged["accuracy"] == pytest.approx(accuracy_score(truth, guess), abs=1e-12)
    present = np.union1d(truth, guess)
    wanted = f1_score(truth, guess, labels=present, average="macro")
    assert merged["macro_f1"] == pytest.approx(wanted, abs=1e-12)
    assert merged["loss"] == pytest.approx(loss_N.mean(), abs=1e-12)
    for name, metric in (
        ("accuracy", MulticlassAccuracy(classes, average="micro")),
        ("macro_f1", MulticlassF1Score(classes, average="macro")),
    ):
        value = metric(torch.from_numpy(guess), torch.from_numpy(truth))
        assert merged[name] == pytest.approx(float(value), abs=1e-6)  # torchmetrics: float32


def stat_scores(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    stat = MulticlassStatScores(classes, average=None)
    return stat(torch.from_numpy(guess), torch.from_numpy(truth)).numpy().astype(np.int64)


@pytest.mark.parametrize("part", ["pool", "validation", "test"])
@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_f37_evaluation_is_that_of_the_whole_part(part: PartName, batch_size: int):
    learner = learned()
    learner.problem = replace(learner.problem, scoring_batch=batch_size)
    scorer = scorer_at(learner)
    merged = merge_counts([scorer.count(r) for r in part_ranges(learner.problem, part)])
    dataset = getattr(learner.problem.parts, part)
    with torch.no_grad():
        logits = learner.model.eval()(learner.problem.normalize(torch.from_numpy(dataset.content)))
    guess, truth = logits.argmax(1).numpy(), dataset.label_N
    assert merged["examples"] == dataset.num_examples
    assert merged["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    present = np.union1d(truth, guess)
    assert merged["macro_f1"] == pytest.approx(
        f1_score(truth, guess, labels=present, average="macro")
    )
    probability = torch.softmax(logits.double(), 1).numpy()
    assert merged["loss"] == pytest.approx(log_loss(truth, probability, labels=range(10)), rel=1e-5)
