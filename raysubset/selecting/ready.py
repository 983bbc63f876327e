"""From what a person asks to a selection that could begin; refused before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raysubset.answers import require_run
from raysubset.core.budget import budget_of
from raysubset.core.filters import Verdict
from raysubset.errors import ConfigError, DataError
from raysubset.experiment import Experiment
from raysubset.learn.checkpoint import file_hash
from raysubset.learn.choosing import Chooser, filter_pool
from raysubset.learn.embedded import (
    EmbeddingFiles,
    LinearHead,
    embedded_problem,
    read_head,
    read_parts,
)
from raysubset.learn.head_fit import fit_head
from raysubset.learn.models import resolved_name
from raysubset.learn.problem import Problem, make_problem
from raysubset.learn.sources.files import TABLE_SUFFIXES, tables_in
from raysubset.learn.states import fitted, read_state
from raysubset.named import filters_of
from raysubset.preparation import chooser_of, notes_of
from raysubset.schedule import Phase
from raysubset.selecting.point import Point, is_of_run, read_point

STRATEGIES = ("glister", "random")
FIT = "fit"
_OF_EMBEDDINGS = ("data.validation", "data.on_bad_row", "data.label_column")
_OF_TRAINING = (
    "selection.goal",
    "selection.proxy_epochs",
    "selection.select_every",
    "selection.warm_start",
    "training.",
    "tracking.",
)
_OF_SCORING = ("training.precision", "training.channels_last")


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


def refuse_unread(names: Iterable[str], *, embeddings: bool) -> None:
    """Refuse options on the command line that would change nothing here.

    Raises:
        ConfigError: names them.
    """
    unread = [n for n in names if n.startswith(_OF_TRAINING) and n not in _OF_SCORING]
    why = "select trains nothing"
    if not unread and embeddings:
        unread = [n for n in names if n.startswith(("data.", "model.", "training."))]
        unread = [n for n in unread if n not in _OF_EMBEDDINGS]
        why = "with --embeddings the files are the data and the head is the model"
    if unread:
        said = ", ".join(f"--{name}" for name in unread)
        raise ConfigError(f"{said}: {why}, so this would change nothing; leave it out.")


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
    if path is not None and path.is_dir() and point is None:
        require_run(path)  # says which runs are inside
    read = {} if path is None or point is not None else read_state(path)
    problem = make_problem(
        data=experiment.data,
        model=experiment.model,
        training=experiment.training,
        scoring_batch=experiment.selection.batch_size,
        threads=experiment.resources.threads_per_rank,
        seed=experiment.seed,
    )
    if point is not None:
        _check_data(point, problem)
    model, _ = problem.build()
    size = sum(parameter.numel() for parameter in model.parameters())
    name = f"{resolved_name(experiment.model.name, problem.in_shape)} ({size:,} parameters)"
    inputs: list[dict[str, Any]] = [{"what": "data", "sha256": problem.parts.fingerprint}]
    state, notes = None, tuple[str, ...]()
    if path is not None:
        given = read if point is None else point.weights
        state, notes = fitted(given, model.state_dict(), f"--checkpoint={checkpoint}")
        inputs.append(_checkpoint_input(path, point))
    return _ready(experiment, problem, state, inputs, notes, model=name, point=point)


def from_embeddings(experiment: Experiment, files: EmbeddingFiles) -> Ready:
    """Return a selection by embeddings, labels and the head above them.

    Raises:
        ConfigError, DataError, ModelError: bad input, named with its remedy.
    """
    _check_strategy(experiment)
    needed = experiment.selection.strategy != "random"
    fit = files.head == FIT
    head = None if fit else read_head(files)
    if head is None and needed and not fit:
        raise ConfigError(
            "glister reads the head's weight (classes, width) and bias above the embeddings; give "
            "them with --head FILE (arrays weight and bias), or --head fit to fit a logistic "
            "regression on the pool."
        )
    parts = read_parts(
        files,
        head,
        share=experiment.data.validation,
        on_bad_row=experiment.data.on_bad_row,
        seed=experiment.seed,
    )
    if fit:
        head = fit_head(parts, seed=experiment.seed)
    problem = embedded_problem(
        parts,
        scoring_batch=experiment.selection.batch_size,
        threads=experiment.resources.threads_per_rank,
        seed=experiment.seed,
    )
    return _ready(
        experiment,
        problem,
        None if head is None else head.state(),
        [{"what": "data", "sha256": parts.fingerprint}, *_file_inputs(files)],
        () if head is None else head.notes,
        model=_told_head(head, fit),
    )


def _ready(
    experiment: Experiment,
    problem: Problem,
    state: dict[str, Tensor] | None,
    inputs: list[dict[str, Any]],
    notes: tuple[str, ...],
    *,
    model: str,
    point: Point | None = None,
) -> Ready:
    strategy = experiment.selection.strategy
    verdict = filter_pool(problem.parts.pool, filters_of(experiment.selection.filters))
    num_pool = int(verdict.keep_N.sum())
    budget = budget_of(experiment.selection.fraction, num_pool)
    if strategy == "glister" and state is None:
        raise ConfigError(
            "glister chooses by what a model has learned; give --checkpoint FILE_OR_RUN, or "
            "--embeddings FILE with --head FILE (--strategy random reads neither)."
        )
    first = 0 if point is None else point.next_epoch
    phase = Phase(
        round=0 if point is None else point.round + 1,
        strategy=strategy,
        budget=budget,
        epochs=range(first, first + 1),
        visits_before=0,
        total_visits=budget,
    )
    sections = {"selection", "resources", "seed"}
    if problem.training is experiment.training:  # not of embeddings: data and model were read
        sections |= {"data", "model", "training"}
    identity = {
        "name": problem.parts.pool.name,
        "parts": problem.parts.describe(),
        "pool": num_pool,
        "model": model,
        "classes": list(problem.parts.pool.class_names),
    }
    return Ready(
        experiment=experiment,
        problem=problem,
        verdict=verdict,
        chooser=chooser_of(experiment, problem, verdict, {strategy}),
        phase=phase,
        state=state,
        asked=experiment.model_dump(mode="json", include=sections),
        identity=identity,
        inputs=tuple(inputs),
        notes=(*notes_of(experiment, problem, verdict), *notes),
    )


def _check_strategy(experiment: Experiment) -> None:
    name = experiment.selection.strategy
    if name not in STRATEGIES:
        raise ConfigError(
            f"--strategy {name} is a way to train, and select trains nothing; use --strategy "
            f"{' or '.join(STRATEGIES)}."
        )


def _check_data(point: Point, problem: Problem) -> None:
    """Refuse other data, or other parts of it, than those of the run."""
    if problem.parts.fingerprint != point.data:
        weights = point.run / "rounds" / f"{point.round:04d}" / "checkpoint" / "weights.safetensors"
        raise DataError(
            f"{point.run} was run on other rows (their SHA-256 differs): data that has changed, "
            "another --seed or --data option than its own, or a control that trained on validation "
            "rows. Leave these options out; or give its weights alone, with the data and model of "
            f"your own: --checkpoint {weights}"
        )


def _checkpoint_input(path: Path, point: Point | None) -> dict[str, Any]:
    if point is None:
        return {"what": "checkpoint", "path": str(path.absolute()), "sha256": file_hash(path)}
    return {
        "what": "checkpoint",
        "path": str(point.run),
        "round": point.round,
        "sha256": point.digest,
    }


def _file_inputs(files: EmbeddingFiles) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for option, text in files.named.items():
        if option == "head" and text == FIT:
            continue
        path = Path(text).expanduser()
        each = tables_in(path, TABLE_SUFFIXES) if path.is_dir() else (path,)
        found += [{"what": option, "path": str(p.absolute()), "sha256": file_hash(p)} for p in each]
    return found


def _told_head(head: LinearHead | None, fit: bool) -> str:
    if head is None:
        return "none"
    shape = "x".join(str(n) for n in head.weight_CH.shape)
    return f"{'fitted' if fit else 'given'} head ({shape})"
