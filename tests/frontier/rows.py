"""Finished trials made up for tests: rows by numpy draws, and run folders by the real writers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raysubset.core.observations import Observations
from raysubset.files import write_json, write_text
from raysubset.frontier.plan import trials_of
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.table import TrialRow
from raysubset.records import write_observations, write_selection, write_table
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection
from tests.small_runs import experiment

NUM_CLASSES, NUM_ROWS, NUM_TEST = 10, 260, 400
SETTINGS = FrontierSettings(fractions=(0.1, 0.3), seeds=3)


def trial_row(row: str, fraction: float, seed: int, **changes: Any) -> TrialRow:
    """Return a row whose figures are drawn by its name, so that no two rows are alike."""
    rng = np.random.default_rng([*map(ord, row), round(1000 * fraction), seed])
    class_accuracy = np.round(rng.uniform(0.6, 1.0, NUM_CLASSES), 3)
    values: dict[str, Any] = {
        "trial": f"{row}-{fraction:g}-s{seed}",
        "row": row,
        "role": "reference" if row == "full" else "strategy" if row == "glister" else "control",
        "fraction": fraction,
        "seed": seed,
        "epochs": 20,
        "budget": int(fraction * 180),
        "num_pool": 180,
        "num_validation": 20 if row == "glister" else 0,
        "num_test": NUM_TEST,
        "visits": int(fraction * 180) * 20,
        "distinct": int(rng.integers(20, 180)),
        "test_accuracy": int(rng.integers(300, NUM_TEST)) / NUM_TEST,
        "test_macro_f1": float(rng.uniform(0.7, 0.9)),
        "class_accuracy": tuple(class_accuracy.tolist()),
        "seconds_start": 1.0,
        "ceiling": 1 / fraction,
        **{f"seconds_{s}": float(rng.uniform(0.1, 3)) for s in ("scoring", "greedy", "other")},
        "seconds_training": float(rng.uniform(1, 30)),
    }
    return TrialRow(**values | changes)


def rows_of_plan(settings: FrontierSettings = SETTINGS) -> list[TrialRow]:
    """Return a row of every planned trial."""
    return [trial_row(t.row, t.fraction, t.seed) for t in trials_of(experiment(), settings)]


def pool_of(seed: int) -> np.ndarray:
    """Return the ids that a seed could choose: other ones for every seed, most of them shared."""
    return np.sort(np.random.default_rng(seed).permutation(NUM_ROWS)[:180])


def label_of(ids: np.ndarray) -> np.ndarray:
    return ids % NUM_CLASSES


def write_trial(
    folder: Path,
    row: TrialRow,
    *,
    chosen: Sequence[int] | None = None,
    margin: dict[int, float] | None = None,
    classes: Sequence[str] | None = None,
    keys: bool = False,
) -> Path:
    """Write what a report reads of a finished trial; `margin` is 1 where an id has no other."""
    path, pool = folder / "trials" / row.trial, pool_of(row.seed)
    (path / "rounds/0000").mkdir(parents=True)
    ids = np.sort(np.random.default_rng(row.seed).permutation(pool)[: max(2, row.budget)])
    ids = ids if chosen is None else np.array(chosen, dtype=np.int64)
    write_text(path / "experiment.yaml", experiment(seed=row.seed).to_yaml())
    parts = {"pool": 180, "validation": 20, "tuning": 0, "test": NUM_TEST, "classes": NUM_CLASSES}
    names = list(classes or map(str, range(NUM_CLASSES)))
    write_json(
        path / "fingerprint.json",
        {"name": "made up", "data": "0", "parts": parts, "pool": 180, "classes": names},
    )
    write_json(path / "environment.json", {"python": "3", "notes": []})
    _write_parts(path, pool, keys=keys)
    _write_round(path / "rounds/0000", pool, ids, margin or {})
    return path


def _write_parts(path: Path, pool: np.ndarray, *, keys: bool) -> None:
    rest = np.setdiff1d(np.arange(NUM_ROWS), pool)
    ids = np.concatenate([pool, rest])
    columns = {
        "part": ["pool"] * len(pool) + ["validation"] * len(rest),
        "id": ids,
        "label": label_of(ids),
        "key": pa.array([f"row {i}" if keys else None for i in ids.tolist()], pa.string()),
        "dropped": pa.array([None] * len(ids), pa.string()),
    }
    write_table(path / "parts.parquet", pa.table(columns))


def _write_round(path: Path, pool: np.ndarray, ids: np.ndarray, margin: dict[int, float]) -> None:
    phase = Phase(
        round=0,
        strategy="random",
        budget=len(ids),
        epochs=range(2),
        visits_before=0,
        total_visits=2 * len(ids),
    )
    selection = Selection(
        ids=ids,
        gains=np.full(len(ids), np.nan, dtype=np.float32),
        weights=None,
        labels=label_of(ids),
        num_pool=len(pool),
        num_classes=NUM_CLASSES,
        fraction=0.1,
    )
    write_selection(path / "selection.parquet", selection, phase)
    at = torch.from_numpy(np.searchsorted(pool, ids))
    sums = torch.tensor([float(margin.get(int(i), 1.0)) for i in ids])
    seen = Observations.none(len(pool)).after_epoch(at, (-sums).exp(), sums, sums > 0)
    write_observations(path / "observations.safetensors", seen)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds none of NaN and infinity."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{path} holds {text}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
