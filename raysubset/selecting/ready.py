"""From what a person asks to a selection that could begin; refused before any work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from raysubset.answers import require_run
from raysubset.core.budget import budget_of, floor_of
from raysubset.core.filters import Verdict
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.learn.choosing import Chooser, filter_pool
from raysubset.learn.embedded import (
    FIT,
    EmbeddingFiles,
    LinearHead,
    embedded_problem,
    read_head,
    read_parts,
)
from raysubset.learn.head_fit import fit_head
from raysubset.learn.mapped import Stored
from raysubset.learn.mapped_pool import refuse_one_by_one
from raysubset.learn.models import resolved_name
from raysubset.learn.problem import Problem, make_problem
from raysubset.learn.spool import Spool, is_spooled, pool_rows
from raysubset.learn.states import fitted, read_state
from raysubset.named import filters_of
from raysubset.preparation import chooser_of, load_data, notes_of, skipped_identity
from raysubset.schedule import Phase
from raysubset.selecting.at_hand import files_at_hand
from raysubset.selecting.inputs import checkpoint_input, file_inputs
from raysubset.selecting.other_table import as_in_run, check_data, transform_behind
from raysubset.selecting.point import Point, is_of_run, read_point
from raysubset.storage.data import Names, parts_by_uri

STRATEGIES = ("glister", "random")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A selection that could begin.

    Attributes:
        experiment: resolved.
        problem: pool, validation and model.
        verdict: what the filters keep.
        chooser: filters, candidates, strategy and quotas around the factors.
        phase: what is to be chosen, as a run's chooser knows it.
        state: the model's weights; None where the strategy reads none.
        asked: the sections of the experiment that decide here.
        identity: name, parts, pool, model and classes, for heading and record.
        inputs: what it reads, each with its SHA-256.
        notes: what a person should be told before it starts.
        spool: the folder of what is beyond `resources.selection_memory_mb`; None where nothing is.
        rows: where the pool's embeddings lie, if in that folder.
        on_disk: whether the gradient factors go there.
    """

    experiment: Experiment
    problem: Problem
    verdict: Verdict
    chooser: Chooser
    phase: Phase
    state: dict[str, Tensor] | None
    asked: dict[str, Any]
    identity: dict[str, Any]
    inputs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    spool: Spool | None = None
    rows: Stored | None = None
    on_disk: bool = False


def from_checkpoint(experiment: Experiment, checkpoint: str | None) -> Ready:
    """Return a selection by a model: its data as `run` reads it, its weights from a checkpoint.

    Args:
        experiment: resolved; for a run of ours, made from `stored_values`.
        checkpoint: a file of weights, or a run folder or round of ours; None for a strategy that
            reads no weights.

    Raises:
        ConfigError, DataError, ModelError, RunFolderError: bad input, named with its remedy.
    """
    _check_strategy(experiment)
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    point = read_point(path) if path is not None and is_of_run(path) else None
    given = point.weights if point is not None else _weights(path)
    transform = transform_behind(path, point)
    selection, resources = experiment.selection, experiment.resources
    problem = make_problem(
        data=experiment.data,
        model=experiment.model,
        training=experiment.training,
        scoring_batch=selection.batch_size,
        threads=resources.threads_per_rank,
        seed=experiment.seed,
        like=transform,
        sources=partial(load_data, experiment, transform),
    )
    problem = as_in_run(problem, transform)
    told = () if point is None else check_data(point, problem, experiment, transform)
    model = _told_model(experiment, problem)
    found = _Found(problem=problem, model=model, point=point, notes=told)
    if path is None or given is None:
        return _ready(experiment, found)
    own = problem.build()[0].state_dict()
    state, notes = fitted(given, own, f"--checkpoint={checkpoint}")
    inputs = (checkpoint_input(path, point),)
    return _ready(experiment, replace(found, state=state, notes=(*told, *notes), inputs=inputs))


def _weights(path: Path | None) -> dict[str, Tensor] | None:
    """Return the weights of a file; a folder is told which runs are inside."""
    if path is None:
        return None
    if path.is_dir():
        require_run(path)
    return read_state(path)


def _told_model(experiment: Experiment, problem: Problem) -> str:
    size = sum(parameter.numel() for parameter in problem.build()[0].parameters())
    return f"{resolved_name(experiment.model.name, problem.in_shape)} ({size:,} parameters)"


def from_embeddings(experiment: Experiment, files: EmbeddingFiles) -> Ready:
    """Return a selection by embeddings, labels and the head above them.

    Raises:
        ConfigError, DataError, ModelError: bad input, named with its remedy.
    """
    _check_strategy(experiment)
    with files_at_hand(files) as (local, names):
        return _from_files(experiment, local, names)


def _from_files(experiment: Experiment, files: EmbeddingFiles, names: Names) -> Ready:
    fit = files.head == FIT
    head = None if fit else read_head(files)
    if head is None and not fit and experiment.selection.strategy != "random":
        raise ConfigError(
            "glister reads the head's weight (classes, width) and bias above the embeddings; give "
            "them with --head FILE (arrays weight and bias), or --head fit to fit a logistic "
            "regression on the pool."
        )
    data, seed = experiment.data, experiment.seed
    share, on_bad = data.validation, data.on_bad_row
    spool = Spool(experiment.resources.selection_memory_mb * 1_000_000)
    parts = read_parts(files, head, share=share, on_bad_row=on_bad, seed=seed, spool=spool)
    head = fit_head(parts, seed=seed) if fit else head
    batch, threads = experiment.selection.batch_size, experiment.resources.threads_per_rank
    problem = embedded_problem(
        parts_by_uri(parts, names),
        scoring_batch=batch,
        threads=threads,
        seed=seed,
        deterministic=experiment.training.deterministic,
    )
    found = _Found(
        problem=problem,
        model=_told_head(head, fit),
        state=None if head is None else head.state(),
        inputs=tuple(each | {"path": names(each["path"])} for each in file_inputs(files)),
        notes=() if head is None else tuple(map(names, head.notes)),
        sections=("selection", "resources", "seed"),
    )
    return _on_disk(_ready(experiment, found), spool)


def _on_disk(ready: Ready, spool: Spool) -> Ready:
    """Return the selection with a folder for its factors, where they are beyond the memory.

    Raises:
        ConfigError: picks that would read the whole disk for each.
    """
    pool, chooser, phase = ready.problem.parts.pool, ready.chooser, ready.phase
    shape = pool.num_examples, pool.content.shape[1]
    rows = pool_rows(spool, *shape) if is_spooled(spool) else None
    size, strategy = len(chooser.id_N), chooser.strategies[phase.strategy]
    if chooser.candidates > 1:
        size = min(size, floor_of(chooser.candidates, phase.budget))
    factor_bytes = 4 * size * (pool.num_classes + shape[1])
    memory_bytes = spool.memory_bytes
    if factor_bytes <= memory_bytes or "factors" not in strategy.needs or phase.budget == size:
        return replace(ready, spool=rows and spool, rows=rows)
    refuse_one_by_one(strategy, factor_bytes, memory_bytes)
    note = (
        f"gradient factors of {factor_bytes / 1e6:,.0f} MB, above selection_memory_mb "
        f"{memory_bytes // 1_000_000:,}: they lie in a temporary folder"
    )
    return replace(ready, spool=spool, rows=rows, on_disk=True, notes=(*ready.notes, note))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What either way in gives: see `Ready`."""

    problem: Problem
    model: str
    state: dict[str, Tensor] | None = None
    point: Point | None = None
    inputs: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[str, ...] = ("data", "model", "selection", "training", "resources", "seed")


def _ready(experiment: Experiment, found: _Found) -> Ready:
    problem, strategy = found.problem, experiment.selection.strategy
    if strategy == "glister" and found.state is None:
        raise ConfigError(
            "glister chooses by what a model has learned; give --checkpoint FILE_OR_RUN, or "
            "--embeddings FILE with --head FILE (--strategy random reads neither)."
        )
    verdict = filter_pool(problem.parts.pool, filters_of(experiment.selection.filters))
    num_pool = int(verdict.keep_N.sum())
    data = {"what": "data", "sha256": problem.parts.fingerprint}
    return Ready(
        experiment=experiment,
        problem=problem,
        verdict=verdict,
        chooser=chooser_of(experiment, problem, verdict, {strategy}),
        phase=_phase(strategy, budget_of(experiment.selection.fraction, num_pool), found.point),
        state=found.state,
        asked=experiment.model_dump(mode="json", include=set(found.sections)),
        identity={
            "name": problem.parts.pool.name,
            "parts": problem.parts.describe(),
            "pool": num_pool,
            "model": found.model,
            "classes": list(problem.parts.pool.class_names),
            **skipped_identity(problem.parts),
        },
        inputs=(data, *found.inputs),
        notes=(*notes_of(experiment, problem, verdict), *found.notes),
    )


def _phase(strategy: str, budget: int, point: Point | None) -> Phase:
    """Return what a run's chooser would be asked next: rounds and epochs are part of its keys."""
    first = 0 if point is None else point.next_epoch
    return Phase(
        round=0 if point is None else point.round + 1,
        strategy=strategy,
        budget=budget,
        epochs=range(first, first + 1),
        visits_before=0,
        total_visits=budget,
    )


def _check_strategy(experiment: Experiment) -> None:
    name = experiment.selection.strategy
    if name not in STRATEGIES:
        raise ConfigError(
            f"--strategy {name} is a way to train, and select trains nothing; use --strategy "
            f"{' or '.join(STRATEGIES)}."
        )


def _told_head(head: LinearHead | None, fit: bool) -> str:
    if head is None:
        return "none"
    shape = "x".join(str(n) for n in head.weight_CH.shape)
    return f"{'fitted' if fit else 'given'} head ({shape})"
