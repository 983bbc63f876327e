"""Scoring with a person's own model in this process: the oracle of the one by actors."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch

from raysubset.learn.choosing import Choice, Progress, choose
from raysubset.learn.outside.adapted import devices_of
from raysubset.learn.outside.scorer import Outside, OutsideScorer
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RangeOutput, RowRange
from raysubset.strategies.selection import Selection


def score_and_choose_here(
    outside: Outside,
    ranges: Sequence[RowRange],
    choice: Choice,
    *,
    num_workers: int,
    progress: Progress,
) -> tuple[Selection, dict[str, float]]:
    """Return the selection and what it took; the model works where it lies."""
    start, device = perf_counter(), devices_of(outside.model)[0]
    scorer = OutsideScorer(outside, device)
    stream = scorer.stream(ranges, embeddings=choice.embeddings, num_workers=num_workers)
    outputs: list[RangeOutput] = []
    for output in stream:
        outputs.append(output)
        progress("scoring", len(outputs), len(ranges))
    busy_s = perf_counter() - start
    with torch_threads(outside.arithmetic.threads):
        chosen = choose(choice, outputs, choosing_device(device), progress)
    return chosen, {"scorers": 0.0, "seconds_scoring": busy_s}


def choosing_device(device: torch.device) -> torch.device:
    """Return where greedy runs: a GPU that has the factors, else the CPU."""
    return device if device.type == "cuda" else torch.device("cpu")
