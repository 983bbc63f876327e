"""Exact greedy: certified screening, re-scoring every row at every pick, and CORDS's blocks.

Re-scoring is timed on its first picks and scaled; at the smaller size all its picks are compared.
Shape letters: N rows, V validation, C classes, H embedding width, K picks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import torch

from jobs.benches.cords import PEER_BLOCKS, by_blocks, expanded
from jobs.benches.features import Features, features
from jobs.benches.measuring import Asked, Measured, medians_by, peak_bytes
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.core.moving_lookahead import MovingLookahead
from raysubset.core.screening import Picked, ScreenedGreedy

SIZES = ((20_000, 1_000, 0.25), (50_000, 5_000, 0.2))
"""N, K, and the share of re-scoring's time that screening may take."""
TIMED_PICKS = 300


def exact(asked: Asked) -> Measured:
    """Exact greedy by certified bounds against re-scoring every row, and against CORDS's blocks."""
    given, threads = features(asked), torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    limits: dict[str, str] = {}
    for number in (1, 2):
        torch.set_num_threads(number)
        for size in _sizes(given):
            rows.append(_at(given, size, number, asked.repeats))
            told = (
                f"{name} {value:,.4g}" for name, value in rows[-1].items() if name != "same ids"
            )
            print("  " + ", ".join(told) + f", same ids {rows[-1]['same ids']}", flush=True)
    torch.set_num_threads(threads)
    ratios: dict[str, float] = {}
    for row in rows:
        where = f"N {row['N']:,}, {row['threads']} thread{'s' * (row['threads'] > 1)}"
        told = {
            f"screened / re-scored, {where}": (row["screened s"] / row["re-scored s"], row["most"]),
            f"the same in CPU time, {where}": (
                row["screened cpu"] / row["re-scored cpu"],
                row["most"],
            ),
            f"screened / CORDS, CPU, {where}": (row["screened cpu"] / row["CORDS cpu"], 1),
            f"extra memory / factors, {where}": (row["extra MB"] / row["factors MB"], 2),
        }
        told = {name: found for name, found in told.items() if not math.isnan(found[0])}
        ratios |= {name: ratio for name, (ratio, _) in told.items()}
        limits |= {name: f"at most {most:g}" for name, (_, most) in told.items()}
    of = (
        f"features of a trained network, V {len(given.label_V):,}, H {given.weight_CH.shape[1]}; "
        f"re-scoring on {TIMED_PICKS} picks, scaled; CORDS's {PEER_BLOCKS} blocks are approximate"
    )
    return Measured(seconds={}, ratios=ratios, of=of, rows=rows, limits=limits)


def _sizes(given: Features) -> list[tuple[int, int, float]]:
    """Return the sizes that the data allows; on small data one of all its rows."""
    held = len(given.label_N)
    return [size for size in SIZES if size[0] <= held] or [(held, max(1, held // 10), SIZES[0][2])]


def _at(
    given: Features, size: tuple[int, int, float], threads: int, repeats: int
) -> dict[str, Any]:
    """Measure one size in turns: a row of the table."""
    number, picks, most = size
    factors, look = given.factors(number), given.lookahead()
    mean = LocalGroundSet(factors).gradient_sum() / number
    step = look.best_step(mean) / picks
    timed = min(TIMED_PICKS, picks)
    taken, extra = peak_bytes(lambda: screened(factors, look, step, picks))
    first = rescored(factors, look, step, picks if number <= SIZES[0][0] else timed)
    contests: dict[str, Callable[[], object]] = {
        "screened": lambda: screened(factors, look, step, picks),
        "re-scored": lambda: rescored(factors, look, step, timed),
    }
    if threads == 1:  # a gigabyte of expanded gradients: once is enough
        gradient = expanded(factors)
        contests["CORDS"] = lambda: by_blocks(gradient, look, step, picks)
    wall, cpu = medians_by(repeats, (perf_counter, process_time), contests)
    scale = picks / timed
    return {
        "N": number,
        "K": picks,
        "threads": threads,
        "most": most,
        "screened s": wall["screened"],
        "re-scored s": wall["re-scored"] * scale,
        "CORDS s": wall.get("CORDS", math.nan),
        "screened cpu": cpu["screened"],
        "re-scored cpu": cpu["re-scored"] * scale,
        "CORDS cpu": cpu.get("CORDS", math.nan),
        "gains computed %": 100 * taken.evaluations,
        "same ids": f"{_equal(taken.row_K.tolist(), first):,} of {len(first):,}",
        "extra MB": (extra or 0) / 1e6,
        "factors MB": (factors.embedding_NH.nbytes + factors.residual_NC.nbytes) / 1e6,
    }


def screened(factors: GradientFactors, look: Lookahead, step: float, picks: int) -> Picked:
    """Return the picks of certified screening, set-up included."""
    open_N = torch.ones(factors.num_examples, dtype=torch.bool, device=factors.ids_N.device)
    return ScreenedGreedy(factors, MovingLookahead(look, step), open_N, None).take(picks)


def rescored(factors: GradientFactors, look: Lookahead, step: float, picks: int) -> list[int]:
    """Return the picks of re-scoring every row at every pick, on the same cheap look-ahead."""
    moving = MovingLookahead(look, step)
    closed_N = torch.zeros_like(factors.norm_N)
    rows: list[int] = []
    for _ in range(picks):
        direction = moving.direction()
        wide_NC = factors.embedding_NH @ direction[:, :-1].T + direction[:, -1]
        row = int((factors.residual_NC * wide_NC).sum(1).add_(closed_N).argmax())
        rows.append(row)
        closed_N[row] = -torch.inf
        column_V = moving.columns(factors.embedding_NH[row : row + 1])[0]
        moving.take(factors.residual_NC[row], column_V)
    return rows


def _equal(mine: list[int], theirs: list[int]) -> int:
    """Return how many first picks are the same in the same order."""
    pairs = zip(mine, theirs, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(theirs))
