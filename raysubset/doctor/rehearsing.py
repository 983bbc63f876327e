"""A short, measured rehearsal on this machine: seconds a row trains, is scored, is chosen.

Real data and the real model, a few batches; greedy on synthetic factors of the real shape.
Letters: N pool, V validation, C classes, H embedding width, K budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from raysubset.core.factors import GradientFactors, residual_of
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.problem import Problem, torch_threads
from raysubset.learn.scoring import Scorer, ranges_of
from raysubset.named import strategy_of
from raysubset.preparation import Prepared
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Block, Blocks, Picks, Stochastic

STAGE_S = 6.0
"""How long one stage is looked at, but for its first batch."""
BATCHES = 12
GREEDY_ROWS = 50_000
REGULARIZED_ROWS = 2_000  # a penalty may compare every row with every other
FEW, MORE = 2, 8  # greedy steps of the two looks: their difference has no fixed part


@dataclass(frozen=True, kw_only=True)
class Paces:
    """What this machine takes, one process at a time.

    Attributes:
        device: "cpu" or "cuda".
        train_s: a row of a training step, in a rank's own batch.
        score_s: a row of a forward pass.
        greedy_fixed_s: a selection before its first pick; 0 where nothing is scored.
        greedy_step_s: a greedy step.
        greedy_steps: of one selection.
    """

    device: str
    train_s: float
    score_s: float
    greedy_fixed_s: float = 0.0
    greedy_step_s: float = 0.0
    greedy_steps: int = 0


class _Enough(Exception):
    """The rehearsal has seen enough of a stage."""


def rehearse_run(prepared: Prepared, workers: int, device: str) -> Paces:
    """Measure the paces of a run that could begin; nothing is written, weights are thrown away."""
    experiment, problem = prepared.experiment, prepared.problem
    with torch_threads(experiment.resources.threads_per_rank):
        train_s = _train_pace(problem, workers, device)
        score_s = _score_pace(problem, device)
        plan = strategy_of("glister", experiment.selection)
        scoring = [p for p in prepared.phases if p.strategy == "glister"]
        budget = scoring[-1].budget if scoring else 0
        if not scoring or not isinstance(plan, Glister) or budget == len(prepared.chooser.id_N):
            return Paces(device=device, train_s=train_s, score_s=score_s)
        fixed_s, step_s = _greedy_pace(prepared, plan, budget, device)
    return Paces(
        device=device,
        train_s=train_s,
        score_s=score_s,
        greedy_fixed_s=fixed_s,
        greedy_step_s=step_s,
        greedy_steps=len(plan.picks.sizes(budget)),
    )


def _train_pace(problem: Problem, workers: int, device: str) -> float:
    """Return the seconds a row takes in the steps of one rank."""
    per_rank = max(2, -(-problem.training.batch_size // workers))
    own = replace(problem, training=problem.training.model_copy(update={"batch_size": per_rank}))
    learner = Learner(own, torch.device(device), world=1)
    ids = problem.parts.pool.id_N[: (BATCHES + 1) * per_rank]
    times: list[tuple[float, int]] = []

    def go_on(done: int, of: int) -> None:
        _settle(device)
        times.append((time.perf_counter(), done))
        if len(times) > 2 and times[-1][0] - times[1][0] > STAGE_S:
            raise _Enough

    order = TrainOrder(
        ids_EK=ids[None, :],
        weights_K=None,
        epochs=range(1),
        visits_before=0,
        total_visits=max(1, len(ids)),
    )
    try:
        learner.train(order, go_on)
        _settle(device)
        times.append((time.perf_counter(), len(ids)))
    except _Enough:
        pass
    return _pace(times)


def _score_pace(problem: Problem, device: str) -> float:
    """Return the seconds a row takes in the forward passes of one scorer."""
    scorer = Scorer(problem, torch.device(device))
    pool = problem.parts.pool.id_N
    times = [(time.perf_counter(), 0)]
    for rows in ranges_of("pool", pool, problem.scoring_batch)[:BATCHES]:
        scorer.score(rows)  # its outputs are on the host: the device is done
        times.append((time.perf_counter(), times[-1][1] + len(rows.ids)))
        if times[-1][0] - times[0][0] > STAGE_S:
            break
    return _pace(times)


def _pace(times: Sequence[tuple[float, int]]) -> float:
    """Return seconds a row, without the first batch where there are others: it warms up."""
    start = times[1] if len(times) > 2 else times[0]
    seconds, rows = times[-1][0] - start[0], times[-1][1] - start[1]
    return seconds / max(1, rows)


def _greedy_pace(
    prepared: Prepared, plan: Glister, budget: int, device: str
) -> tuple[float, float]:
    """Return (seconds before the first pick, seconds a step) of one selection."""
    pool, validation = prepared.problem.parts.pool, prepared.problem.parts.validation
    asked = len(prepared.chooser.id_N)
    if plan.candidates > 1:
        asked = min(asked, math.ceil(plan.candidates * budget))
    most = GREEDY_ROWS if plan.regularizer is None else REGULARIZED_ROWS
    rows = min(asked, most)
    _, head = prepared.problem.build()
    width = 0 if plan.gradient == "bias" else head.in_features
    ground = LocalGroundSet(_synthetic(pool.label_N[:rows], pool.num_classes, width, device))
    seen = _synthetic(validation.label_N, pool.num_classes, width, device)
    look = Lookahead(
        embedding_VH=seen.embedding_NH,
        label_V=seen.label_N,
        logits_VC=torch.log_softmax(torch.randn(seen.residual_NC.shape, device=device), 1),
    )
    size = plan.picks.sizes(budget)[0]
    seconds: list[float] = []
    steps = [min(n, max(1, (rows - 1) // size)) for n in (FEW, MORE)]
    plan = replace(plan, candidates=1.0)
    for count in (steps[0], *steps):  # the first warms up
        own = replace(plan, picks=_as_few(plan.picks, size, budget, count))
        start = time.perf_counter()
        own.select(ground, look, size * count, 0)
        seconds.append(time.perf_counter() - start)
    scale = asked / rows
    if steps[1] == steps[0]:
        return 0.0, scale * seconds[-1] / steps[0]
    step_s = max(0.0, seconds[-1] - seconds[-2]) / (steps[1] - steps[0])
    return scale * max(0.0, seconds[-2] - steps[0] * step_s), scale * step_s


def _as_few(picks: Picks, size: int, budget: int, count: int) -> Picks:
    """Return the picks whose `count` steps cost what as many steps of the whole budget cost."""
    if isinstance(picks, Block | Blocks):
        return Block(size)
    if isinstance(picks, Stochastic):  # a sample of the same size
        return Stochastic(picks.epsilon ** (size * count / budget))
    return picks


def _synthetic(label_N: np.ndarray, num_classes: int, width: int, device: str) -> GradientFactors:
    """Return factors of these labels, whose residuals and embeddings are drawn."""
    draw = torch.Generator().manual_seed(0)
    label = torch.from_numpy(label_N.copy())
    logits = torch.randn(len(label), num_classes, generator=draw)
    return GradientFactors(
        ids_N=torch.arange(len(label)).to(device),
        label_N=label.to(device),
        residual_NC=residual_of(logits, label).to(device),
        embedding_NH=torch.randn(len(label), width, generator=draw).to(device),
    )


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
