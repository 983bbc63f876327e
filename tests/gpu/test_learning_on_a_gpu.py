"""What a GPU adds: autocast, layout, resident data, NCCL; and what it must not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from raysubset.core.keys import derive_key
from raysubset.learn import rows
from raysubset.learn.choosing import Choice, choose
from raysubset.learn.learner import EpochTrace, Learner
from raysubset.learn.local import part_ranges
from raysubset.learn.scoring import RangeOutput, Scorer
from raysubset.strategies.glister import Glister
from tests.learn.ranks import CPU, never, order_of
from tests.small_runs import problem

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


def learner_of(device: torch.device = CUDA, **options: Any) -> Learner:
    return Learner(problem(**{"model__name": "convnet", **options}), device, world=1)


def curve(learner: Learner) -> list[float]:
    """Train and return the mean loss per epoch."""
    traces = learner.train(order_of(learner.problem, size=96), never)
    return [float(EpochTrace.union([trace]).loss_K.mean()) for trace in traces]


def outputs_of(learner: Learner) -> list[RangeOutput]:
    """Score validation, then the pool, in place."""
    scorer = Scorer(learner.problem, learner.device, learner)
    parts = ("validation", "pool")
    return [scorer.score(each) for part in parts for each in part_ranges(learner.problem, part)]


def test_a_gpu_learns_the_curve_of_the_cpu_in_fp32():
    # Other kernels, and TF32 in convolutions (10 bits): a thousandth a product, over 18 steps.
    on_gpu = curve(learner_of(training__precision="fp32"))
    assert on_gpu == pytest.approx(curve(learner_of(CPU)), rel=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_autocast_learns_the_curve_of_fp32(precision: str, clip_norm: float | None):
    options: dict[str, Any] = {"training__clip_norm": clip_norm}
    exact = curve(learner_of(training__precision="fp32", **options))
    learner = learner_of(training__precision=precision, **options)
    # bf16 keeps 8 bits; fp16's scaler may skip its first steps.
    assert curve(learner) == pytest.approx(exact, rel=0.15)
    assert learner.scaler.is_enabled() == (precision == "fp16")
    assert all(tensor.dtype != torch.float16 for tensor in learner.weights().values())


def test_channels_last_reaches_the_convolutions_and_leaves_the_curve():
    options: dict[str, Any] = {"training__precision": "fp32", "model__name": "resnet18"}
    on = learner_of(training__channels_last="on", **options)
    off = learner_of(training__channels_last="off", **options)
    wide = [p for p in on.model.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    assert curve(on) == pytest.approx(curve(off), rel=0.1)  # other kernels, TF32


def test_rows_kept_on_the_host_give_the_bits_of_resident_ones(monkeypatch: pytest.MonkeyPatch):
    options: dict[str, Any] = {"training__deterministic": True, "training__precision": "fp32"}
    resident = learner_of(**options)
    monkeypatch.setattr(rows, "_fits", lambda *_: False)
    hosted = learner_of(**options)
    assert resident.rows.resident
    assert not hosted.rows.resident
    assert curve(hosted) == curve(resident)
    for mine, other in zip(outputs_of(hosted), outputs_of(resident), strict=True):
        assert np.array_equal(mine.ids, other.ids)
        assert np.array_equal(mine.logits, other.logits)


def test_deterministic_training_gives_the_same_bits_twice():
    runs = [learner_of(training__deterministic=True) for _ in range(2)]
    first, second = (curve(learner) for learner in runs)
    assert first == second
    for name, tensor in runs[0].weights().items():
        assert torch.equal(tensor, runs[1].weights()[name]), name


def test_choosing_on_a_gpu_gives_the_ids_of_the_cpu_for_the_same_factors():
    learner = learner_of(training__precision="fp32")
    curve(learner)
    outputs = outputs_of(learner)
    split = len(part_ranges(learner.problem, "validation"))
    choice = Choice(
        strategy=Glister(),
        budget=20,
        key=derive_key(0, "select"),
        epochs=range(1),
        num_validation=split,
    )
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # TF32 elsewhere must not reach what chooses
    try:
        on_gpu, on_cpu = choose(choice, outputs, "cuda"), choose(choice, outputs, "cpu")
    finally:
        torch.set_float32_matmul_precision(allowed)
    assert on_gpu.ids.tolist() == on_cpu.ids.tolist()
    np.testing.assert_allclose(on_gpu.gains, on_cpu.gains, rtol=1e-4, atol=1e-6)


def test_one_nccl_rank_gives_the_bits_of_one_process(tmp_path: Path):
    from raysubset.cluster.sums import distributed as joined
    from raysubset.cluster.sums import share_buffers

    options: dict[str, Any] = {"training__deterministic": True, "model__name": "convnet"}
    alone = curve(learner_of(**options))
    distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        the_problem = problem(**options)
        rank = Learner(
            the_problem, CUDA, world=1, rank=0, wrap=lambda m: joined(m, the_problem, CUDA)
        )
        assert curve(rank) == alone
        share_buffers(rank.model)
    finally:
        distributed.destroy_process_group()
