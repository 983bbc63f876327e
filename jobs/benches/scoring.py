"""Scoring: the pass that makes gradient factors, against a bare forward pass."""

from __future__ import annotations

import numpy as np
import torch

from jobs.benches.measuring import Asked, Measured, device_of, medians
from raysubset.learn.layout import laid_out
from raysubset.learn.scoring import Scorer, ranges_of


def scoring(asked: Asked) -> Measured:
    """The pass that makes gradient factors, against a bare forward pass over the same rows."""
    run = asked.prepared()
    device, problem = device_of(run), run.problem
    scorer, pool = Scorer(problem, device), problem.parts.pool
    ranges = ranges_of("pool", pool.id_N, problem.scoring_batch)
    content = torch.from_numpy(np.array(pool.content))
    plain = content.to(device) if device.type == "cuda" else content

    @torch.no_grad()
    def bare() -> None:
        scorer.model.eval()
        for content_B in plain.split(problem.scoring_batch):
            content_B = scorer.normalize(content_B)
            scorer.model(laid_out(content_B, scorer.model)).cpu()

    found = medians(
        asked.repeats, factors=lambda: [scorer.score(rows) for rows in ranges], forward=bare
    )
    return Measured(
        seconds=found,
        ratios={"factors / forward": found["factors"] / found["forward"]},
        of=f"{len(pool.id_N)} rows, batches of {problem.scoring_batch}, {device.type}",
    )
