"""Compiled and deterministic training: the same curve, the same names, errors with a remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.checkpoint import CheckpointRef, write_checkpoint
from raysubset.learn.learner import EpochTrace, Learner
from raysubset.learn.local import part_ranges
from raysubset.learn.numerics import WORKSPACE, full_fp32, settle, settled, tuned
from raysubset.learn.scoring import Scorer
from raysubset.learn.settings import TrainingSettings
from tests.learn.ranks import CPU, never, order_of
from tests.small_runs import problem

DETERMINISTIC = TrainingSettings(deterministic=True)


@pytest.fixture(autouse=True)
def process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv(WORKSPACE, "as it was")
    monkeypatch.delenv(WORKSPACE)
    with settled(TrainingSettings()):
        yield


@pytest.fixture
def quiet_compiler() -> Generator[None]:
    """One compiling process, and nothing compiled is left for other tests."""
    from torch._inductor import config

    if shutil.which("g++") is None:
        pytest.skip("torch.compile on CPU needs g++")
    with config.patch(compile_threads=1):
        yield
    torch._dynamo.reset()


def curve(learner: Learner) -> list[float]:
    """Train and return the mean loss per epoch."""
    traces = learner.train(order_of(learner.problem), never)
    return [float(EpochTrace.union([trace]).loss_K.mean()) for trace in traces]


def learner_of(world: int = 1, **options: Any) -> Learner:
    return Learner(
        problem(**{"model__name": "tests.learn.ranks:normed", **options}), CPU, world=world
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
@pytest.mark.parametrize("world", [2])
def test_compiled_and_eager_learn_the_same_curve_and_share_checkpoints(
    quiet_compiler: None, tmp_path: Any, world: int
):
    eager, compiled = learner_of(world), learner_of(world, training__compile=True)
    # Fused kernels add in another order: a few roundings (6e-8) a step, over nine steps.
    assert curve(compiled) == pytest.approx(curve(eager), rel=1e-4)
    assert compiled.forward is not compiled.model
    assert list(compiled.weights()) == list(eager.weights()), "no name of the compiler's"
    for name, tensor in compiled.weights().items():
        torch.testing.assert_close(tensor, eager.weights()[name], rtol=1e-3, atol=1e-5, msg=name)
    files, _ = write_checkpoint(str(tmp_path / "c"), compiled.snapshot(3))
    eager.load(CheckpointRef(path=str(tmp_path / "c"), files=files))
    assert eager.round == 3
    [rows, *_] = part_ranges(compiled.problem, "pool")
    in_place = Scorer(compiled.problem, CPU, compiled).score(rows)
    elsewhere = Scorer(eager.problem, CPU, eager).score(rows)
    assert np.array_equal(in_place.embeddings, elsewhere.embeddings), "the hook saw the head"
    assert np.array_equal(in_place.logits, elsewhere.logits)


@pytest.mark.filterwarnings("ignore")
def test_a_compilation_that_fails_ends_in_a_sentence_with_the_remedy(
    quiet_compiler: None,
):
    from torch._inductor import config

    missing = config.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True})
    remedy = r"torch.compile failed .*--training.compile false"
    with missing, pytest.raises(ModelError, match=remedy):
        curve(learner_of(training__compile=True, seed=5))


def putting(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model with an operation that has no deterministic form, on any device."""

    class Putting(nn.Module):
        def forward(self, content: Tensor) -> Tensor:
            return content.put_(torch.tensor([0]), content.new_zeros(1))

    width = int(np.prod(in_shape))
    return nn.Sequential(Putting(), nn.Flatten(), nn.Linear(width, num_classes))


def test_an_operation_without_a_deterministic_form_is_named():
    options: dict[str, Any] = {"model__name": "tests.learn.test_numerics:putting"}
    curve(learner_of(**options))  # fine without
    with pytest.raises(ModelError, match=r"uses put_, .*--training.deterministic false"):
        curve(learner_of(training__deterministic=True, **options))


def test_an_error_of_the_models_own_stays_what_it_is(monkeypatch: pytest.MonkeyPatch):
    learner = learner_of(training__deterministic=True, training__compile=False)

    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(learner.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        curve(learner)


def test_deterministic_training_is_the_same_training():
    plain = curve(learner_of())
    assert curve(learner_of(training__deterministic=True)) == plain  # a CPU's bits are fixed anyway
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ[WORKSPACE]


def test_a_process_is_given_back_as_it_was():
    with settled(DETERMINISTIC):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_a_person_who_chose_cublas_workspaces_keeps_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(WORKSPACE, ":16:8")
    settle(DETERMINISTIC)
    assert os.environ[WORKSPACE] == ":16:8"


@pytest.mark.parametrize(
    ("device", "deterministic", "times"),
    [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)],
)
def test_only_gpu_training_times_its_convolutions(device: str, deterministic: bool, times: bool):
    with tuned(TrainingSettings(deterministic=deterministic), torch.device(device)):
        assert torch.backends.cudnn.benchmark is times
    assert not torch.backends.cudnn.benchmark  # scoring: two scorers could choose differently


def test_what_chooses_is_full_fp32_where_the_process_allows_less():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_fp32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_fp16_has_a_scaler_on_any_device_and_learns_the_curve_of_fp32(clip_norm: float | None):
    options: dict[str, Any] = {"training__clip_norm": clip_norm}
    half = learner_of(training__precision="fp16", **options)
    assert half.scaler.is_enabled()
    # fp16 keeps 11 bits, and the scaler's first steps may overflow and be skipped.
    assert curve(half) == pytest.approx(curve(learner_of(**options)), rel=0.1)


def test_a_step_whose_scaled_gradient_overflows_is_skipped_and_the_schedule_goes_on():
    learner = learner_of(training__precision="fp16", training__clip_norm=0.5)
    learner.scaler.load_state_dict({**learner.scaler.state_dict(), "scale": 2.0**100})
    before, order = learner.weights(), order_of(learner.problem, size=16, epochs=1)
    [trace] = learner.train(order, never)
    after, named = learner.weights(), dict(learner.model.named_parameters())
    assert all(torch.equal(after[name], before[name]) for name in named)
    assert learner.scaler.get_scale() < 2.0**100
    [unscaled] = learner_of(training__clip_norm=0.5).train(order, never)
    assert trace.lr == unscaled.lr, "the learning rate is a function of visits, not of steps"
