"""Peers: facility location over gradients, ours on factors, theirs on N x N similarities.

Ours maximises sum_j (m_j - min_s d_sj), with d the squared distances of gradients and m_j no
distance exceeds; theirs sum_j max_s s_sj, with the similarity s = max d - d. For any picks the two
differ by sum_j m_j - N max d, which no pick changes: the same gains, the same greedy, the medoid
first. Ours is the regularizer alone, under a direction of zero. Shape letters: N rows, K picks.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from importlib.util import find_spec
from itertools import takewhile
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from jobs.benches.features import features
from jobs.benches.measuring import Asked, Measured, medians, peak_bytes
from raysubset.core.factors import GradientFactors
from raysubset.strategies.regularizers import FacilityLocation

SIZES = (5_000, 10_000)
SHARE = 20  # K = N / 20
TIMED_PICKS = 20  # of the plain greedy, which looks at N x N for each; its time is scaled
Greedy = Callable[[np.ndarray, int], list[int]]


def peers(asked: Asked) -> Measured:
    """Facility location: ours on factors against apricot and numpy on N x N similarities."""
    given = features(asked)
    sizes = [size for size in SIZES if size <= len(given.label_N)] or [len(given.label_N)]
    rows = [row for size in sizes for row in _at(given.factors(size))]
    few = given.factors(sizes[0])
    similarity_NN = similarity_of(few)
    found = medians(
        asked.repeats,
        **{
            f"{name}, N {sizes[0]:,}": lambda name=name: _pick(name, few, similarity_NN)
            for name in _contestants()
        },
    )
    ratios = _ratios(rows, "all s", "") | _ratios(rows, "all cpu s", " (CPU time)")
    of = f"picks of 5 %; medians of {asked.repeats} of greedy alone, the table and ratios once"
    return Measured(seconds=found, ratios=ratios, of="; ".join([of, *_absent()]), rows=rows)


def _ratios(rows: list[dict[str, Any]], what: str, told: str) -> dict[str, float]:
    """Return ours / theirs, from what each is given to its picks: factors, or gradients."""
    ours = {row["N"]: row[what] for row in rows if row["who"] == "ours"}
    return {
        f"ours / {row['who']}, N {row['N']:,}{told}": ours[row["N"]] / row[what]
        for row in rows
        if row["who"] != "ours" and row[what] is not None
    }


def cover(factors: GradientFactors, picks: int) -> list[int]:
    """Return the rows that facility location alone picks, in order."""
    penalty = FacilityLocation(1.0).start(factors)
    nothing_N = torch.zeros_like(factors.norm_N)
    open_N = torch.ones_like(nothing_N, dtype=torch.bool)
    rows: list[int] = []
    for _ in range(picks):
        row, _ = penalty.best(nothing_N, open_N)
        penalty.take(row)
        open_N[row] = False
        rows.append(row)
    return rows


def expanded(factors: GradientFactors) -> np.ndarray:
    """Return the gradients written out, as peers need them. Shape: (N, C * (H + 1))."""
    wide = np.pad(factors.wide_embedding().numpy(), ((0, 0), (0, 1)), constant_values=1)
    residual = factors.residual_NC.numpy()
    return (residual[:, :, None] * wide[:, None, :]).reshape(len(wide), -1)


def similarity_of(factors: GradientFactors) -> np.ndarray:
    """Return max d - d for all pairs, from the gradients written out. Shape: (N, N)."""
    gradient_NG = expanded(factors)
    if find_spec("sklearn"):
        from sklearn.metrics.pairwise import euclidean_distances

        distance_NN = euclidean_distances(gradient_NG, squared=True)
    else:
        square_N = (gradient_NG**2).sum(1)
        distance_NN = square_N[:, None] + square_N - 2 * gradient_NG @ gradient_NG.T
        np.fill_diagonal(np.maximum(distance_NN, 0, out=distance_NN), 0)
    return np.subtract(distance_NN.max(), distance_NN, out=distance_NN)


def plain_greedy(similarity_NN: np.ndarray, picks: int) -> list[int]:
    """Return the picks of greedy as one writes it: every gain, the largest, again."""
    covered, rows = np.zeros_like(similarity_NN[0]), list[int]()
    for _ in range(picks):
        gain = np.maximum(similarity_NN, covered).sum(axis=1)
        gain[rows] = -np.inf
        rows.append(int(gain.argmax()))
        covered = np.maximum(covered, similarity_NN[rows[-1]])
    return rows


def lazy_greedy(similarity_NN: np.ndarray, picks: int) -> list[int]:
    """Return the picks of lazy greedy (Minoux 1978) as one writes it, with a heap of old gains."""
    covered, rows = np.zeros_like(similarity_NN[0]), list[int]()
    heap = [(-gain, row) for row, gain in enumerate(similarity_NN.sum(axis=1).tolist())]
    heapq.heapify(heap)
    for _ in range(picks):
        while True:
            _, row = heapq.heappop(heap)
            gain = np.maximum(similarity_NN[row] - covered, 0).sum()
            if not heap or -gain <= heap[0][0]:
                break
            heapq.heappush(heap, (-float(gain), row))
        rows.append(row)
        covered = np.maximum(covered, similarity_NN[row])
    return rows


def apricot_greedy(similarity_NN: np.ndarray, picks: int) -> list[int]:
    """Return the picks of apricot's lazy greedy; it compiles at every fit."""
    from apricot import FacilityLocationSelection  # pyright: ignore[reportMissingImports]

    found = FacilityLocationSelection(picks, metric="precomputed", optimizer="lazy")
    return [int(row) for row in found.fit(similarity_NN).ranking]


def value_of(rows: list[int], similarity_NN: np.ndarray) -> float:
    """Return sum_j max_s s_sj in float64, the objective of all of them."""
    return float(similarity_NN[rows].max(axis=0).astype(np.float64).sum())


def _contestants() -> dict[str, Greedy | None]:
    """Return how each picks from similarities; None: ours, from factors."""
    found: dict[str, Greedy | None] = {"ours": None, "numpy lazy": lazy_greedy}
    return found | ({"apricot lazy": apricot_greedy} if find_spec("apricot") else {})


def _absent() -> list[str]:
    told = {
        "apricot": "apricot not installed (pip install apricot-select)",
        "sklearn": "scikit-learn not installed (pip install scikit-learn): numpy's distances",
    }
    return [words for name, words in told.items() if find_spec(name) is None]


def _pick(name: str, factors: GradientFactors, similarity_NN: np.ndarray) -> list[int]:
    greedy, picks = _contestants()[name], factors.num_examples // SHARE
    if greedy is None:
        return cover(factors, picks)
    return greedy(similarity_NN, picks)


def _at(factors: GradientFactors) -> list[dict[str, Any]]:
    """Return what each took at one N, from what it is given to its picks, and their worth."""
    told: list[dict[str, Any]] = []
    rows: dict[str, list[int]] = {}
    made_s, similarity_NN = 0.0, np.empty((0, 0))
    for name in _contestants():
        _whole(name, factors.take(slice(0, 64)))  # imports, threads: what a first call costs
        start, cpu = perf_counter(), process_time()
        # (the similarities of the one before are freed only after: they are no part of the peak)
        (made_s, similarity_NN, rows[name]), peak = peak_bytes(
            lambda name=name: _whole(name, factors)
        )
        all_s, cpu_s = perf_counter() - start, process_time() - cpu
        told.append(_row(name, factors, made_s, all_s, cpu_s, peak))
    worth = {name: value_of(taken, similarity_NN) for name, taken in rows.items()}
    for row in told:
        row |= {"f / ours - 1": worth[row["who"]] / worth["ours"] - 1}
        row |= {"same first": _same(rows[row["who"]], rows["ours"])}
    plain_s = made_s + _plain_s(similarity_NN)
    return [*told, _row("numpy plain (scaled)", factors, made_s, plain_s, None, None)]


def _whole(name: str, factors: GradientFactors) -> tuple[float, np.ndarray, list[int]]:
    """Return the seconds of the N x N similarities, they themselves (ours: none), and the picks."""
    start = perf_counter()
    similarity_NN = np.empty((0, 0)) if name == "ours" else similarity_of(factors)
    made_s = 0.0 if name == "ours" else perf_counter() - start
    return made_s, similarity_NN, _pick(name, factors, similarity_NN)


def _same(mine: list[int], theirs: list[int]) -> int:
    """Return how many picks agree before the first that differs."""
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=True))])


def _row(
    who: str,
    factors: GradientFactors,
    made_s: float,
    all_s: float,
    cpu_s: float | None,
    peak: int | None,
) -> dict[str, Any]:
    size = factors.num_examples
    return {
        "who": who,
        "N": size,
        "K": size // SHARE,
        "N x N s": made_s,
        "greedy s": all_s - made_s,
        "all s": all_s,
        "all cpu s": cpu_s,
        "peak MB": None if peak is None else peak / 1e6,
    }


def _plain_s(similarity_NN: np.ndarray) -> float:
    """Return the seconds of plain greedy, scaled from its first picks."""
    start = perf_counter()
    plain_greedy(similarity_NN, TIMED_PICKS)
    return (perf_counter() - start) / TIMED_PICKS * (len(similarity_NN) // SHARE)
