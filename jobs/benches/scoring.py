"""Scoring: the pass that makes gradient factors, against a bare forward pass."""

from __future__ import annotations

from dataclasses import replace

import torch

from jobs.benches.measuring import Asked, Measured, device_of, medians
from jobs.benches.pieces import at_precision, clock_of, on_rows, precisions
from raysubset.learn.layout import autocast, laid_out
from raysubset.learn.problem import Problem
from raysubset.learn.rows import on_device, tensor_of
from raysubset.learn.scoring import Scorer, ranges_of

ROWS, ROWS_OF_RESNET, CLASSES, LEAST_SIDE = 2_048, 256, 1_000, 28
LIMIT = "at most 1.15"


def scoring(asked: Asked) -> Measured:
    """The pass that makes gradient factors, against a bare forward pass over the same rows."""
    run = asked.prepared()
    device, given = device_of(run), on_rows(run.problem, ROWS)
    few = on_rows(given, ROWS_OF_RESNET)
    cases = {
        run.experiment.model.name: given,
        "wide head": _modelled(few, "jobs.benches.pieces:wide_headed"),
        "1,000 classes": on_rows(given, ROWS_OF_RESNET, CLASSES),
    }
    if len(given.in_shape) == 3 and min(given.in_shape[1:]) >= LEAST_SIDE:
        cases["resnet18"] = _modelled(few, "resnet18")
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for name, problem in cases.items():
        for precision in precisions(device):
            found = _measured(asked, at_precision(problem, precision), device)
            seconds |= {f"{name} {precision} {what}": s for what, s in found.items()}
            ratios[f"{name} {precision}: factors / forward"] = found["factors"] / found["forward"]
    return Measured(
        seconds=seconds,
        ratios=ratios,
        of=f"{len(given.parts.pool.id_N)} rows ({ROWS_OF_RESNET} where named), batches of "
        f"{given.scoring_batch}, {device.type}",
        limits=dict.fromkeys(ratios, LIMIT),
    )


def _modelled(problem: Problem, name: str) -> Problem:
    return replace(problem, model=problem.model.model_copy(update={"name": name, "head": None}))


def _measured(asked: Asked, problem: Problem, device: torch.device) -> dict[str, float]:
    scorer, pool = Scorer(problem, device), problem.parts.pool
    ranges = ranges_of("pool", pool.id_N, problem.scoring_batch)

    @torch.no_grad()
    def bare() -> None:
        scorer.model.eval()
        for content_B in tensor_of(pool.content).split(problem.scoring_batch):
            content_B = scorer.normalize(on_device(content_B, device))
            with autocast(device, scorer.amp):
                logits_BC = scorer.model(laid_out(content_B, scorer.layout))
            logits_BC.float().cpu()

    return medians(
        asked.repeats,
        clock_of(device),
        factors=lambda: [scorer.score(rows) for rows in ranges],
        forward=bare,
    )
