"""Points of small runs, and what a scorer gives at them, written as a person's own files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from raysubset.experiment import Experiment, nest
from raysubset.learn.embedded import EmbeddingFiles
from raysubset.learn.head import head_weight
from raysubset.learn.scoring import Scorer, ranges_of
from raysubset.records import read_table
from raysubset.selecting.point import stored_values
from raysubset.selecting.ready import Ready, from_checkpoint, from_embeddings
from raysubset.strategies.selection import Selection

Arrays = dict[str, np.ndarray]


def at(path: Path, **options: Any) -> Ready:
    """Return the selection at a point of a run, with `section__option=value` changes."""
    changes = nest({name.replace("__", "."): value for name, value in options.items()})
    return from_checkpoint(Experiment.of(_over(stored_values(str(path)), changes)), str(path))


def _over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in changes.items():
        inner = merged.get(name)
        nested = isinstance(value, dict) and isinstance(inner, dict)
        merged[name] = _over(inner, value) if nested else value
    return merged


def of_files(files: EmbeddingFiles, **options: Any) -> Ready:
    """Return the selection of embedding files."""
    values = {name.replace("__", "."): value for name, value in options.items()}
    return from_embeddings(Experiment.of(nest(values)), files)


def same_choice(selection: Selection, round_: Path) -> bool:
    """Return whether a selection is that of a run's round, id for id and gain for gain."""
    table = read_table(round_ / "selection.parquet")
    gains = table["gain"].to_numpy().astype(np.float32)
    ids = table["id"].to_numpy()
    return np.array_equal(selection.ids, ids) and selection.gains.tobytes() == gains.tobytes()


def same(a: Selection, b: Selection) -> bool:
    """Return whether two selections are the same, bit for bit."""
    return np.array_equal(a.ids, b.ids) and a.gains.tobytes() == b.gains.tobytes()


@lru_cache(maxsize=8)
def dumped(path: Path) -> dict[str, Arrays]:
    """Return embeddings, labels and ids of pool and validation, and the head, at a point."""
    ready = at(path)
    scorer = Scorer(ready.problem, torch.device("cpu"))
    assert ready.state is not None
    scorer.load(ready.state)
    found: dict[str, Arrays] = {}
    for part in ("pool", "validation"):
        dataset = getattr(ready.problem.parts, part)
        ranges = ranges_of(part, dataset.id_N, ready.problem.scoring_batch)
        embeddings = np.concatenate([scorer.score(rows).embeddings for rows in ranges])
        labels, ids = np.array(dataset.label_N), np.array(dataset.id_N)
        found[part] = {"embeddings": embeddings, "labels": labels, "ids": ids}
    weight, bias = head_weight(scorer.model, scorer.head)
    found["head"] = {"weight": weight.numpy().copy(), "bias": bias.numpy().copy()}
    return found


def write(path: Path, arrays: Arrays) -> str:
    """Write named arrays in the format of the path's suffix, as a person would."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)
    else:
        pq.write_table(pa.table({name: _column(array) for name, array in arrays.items()}), path)
    return str(path)


def _column(array: np.ndarray) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def files_in(folder: Path, suffix: str, found: dict[str, Arrays]) -> EmbeddingFiles:
    """Write a dump as three files of one format."""
    return EmbeddingFiles(
        embeddings=write(folder / f"pool{suffix}", found["pool"]),
        validation_embeddings=write(folder / f"validation{suffix}", found["validation"]),
        head=write(folder / f"head{suffix}", found["head"]),
    )
