"""Preparation: from an experiment to everything that a run needs, refused before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raysubset.core.budget import budget_of
from raysubset.core.filters import Verdict
from raysubset.errors import ConfigError, RunFolderError
from raysubset.experiment import Experiment, flatten
from raysubset.learn.choosing import Choice, Chooser, filter_pool
from raysubset.learn.models import has_batch_norm, resolved_name
from raysubset.learn.parts import Parts, overlap_notes, trained_on_validation
from raysubset.learn.precision import Measure, decided, seconds_of_a_step
from raysubset.learn.problem import Problem, make_problem
from raysubset.learn.scoring import RowRange
from raysubset.learn.skipped import note_of, summary
from raysubset.learn.sources import Sources, load_sources
from raysubset.learn.transform import Transform, read_transform
from raysubset.learn.untaught import untaught_notes
from raysubset.ledger import Ledger
from raysubset.listed import list_once, table_of_parts, transform_once
from raysubset.logs import fields
from raysubset.named import filters_of, strategy_of
from raysubset.schedule import KEPT, Phase, plan
from raysubset.storage.data import data_at_hand, sources_by_uri
from raysubset.strategies.selection import Selection
from raysubset.surroundings import environment as environment
from raysubset.tracking.settings import import_trackers
from raysubset.tracking.tracked import tracked

ON_VALIDATION = ("full-validation-compressed", "validation-only", "random-validation")
MANY_LOOKS = 50_000_000  # from here on a selection takes tens of seconds on a CPU core


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that could begin.

    Attributes:
        experiment: resolved.
        problem: data, model, recipe.
        verdict: what the filters keep.
        phases: the schedule.
        chooser: filters, candidates, strategies and quotas around the factors.
        identity: what a resumed run must have in common with this one.
        notes: what a person should be told before it starts.
        num_parameters: of the model.
        given: the problem and verdict as loaded; a control may train on other rows than the pool.
        decision: what precision and layout this CPU was measured to be quick with, and why, in
            words; it stands among the notes too.
    """

    experiment: Experiment
    problem: Problem
    verdict: Verdict
    phases: tuple[Phase, ...]
    chooser: Chooser
    identity: dict[str, Any]
    notes: tuple[str, ...]
    num_parameters: int
    given: tuple[Problem, Verdict]
    decision: str | None = None


def prepare(
    experiment: Experiment,
    sources: Sources | None = None,
    import_from: str | None = None,
    begun: Path | None = None,
) -> Prepared:
    """Load, split, filter, plan and check.

    Args:
        experiment: resolved; its ranks are settled by this machine where nobody did before.
        sources: the data, where it is loaded already; see `load_data`.
        import_from: the folder of a person's model; None for the working one.
        begun: the folder of the run that goes on, whose columns a table must still have, in
            whatever order; None for a run of its own.

    Raises:
        ConfigError, DataError, ModelError, BudgetError: bad input, named with its remedy.
    """
    import_trackers(experiment.tracking)
    experiment, like = settled_here(experiment), read_transform(begun)
    problem = make_problem(
        data=experiment.data,
        model=experiment.model,
        training=experiment.training,
        scoring_batch=experiment.selection.batch_size,
        threads=experiment.resources.threads_per_rank,
        seed=experiment.seed,
        sources=sources or partial(load_data, experiment, like),
        import_from=import_from,
        like=like,
    )
    filters = filters_of(experiment.selection.filters)
    verdict = filter_pool(problem.parts.pool, filters)
    return with_strategy(experiment, problem, verdict)


def settled_here(experiment: Experiment) -> Experiment:
    """Return `settled` by the GPUs of this machine, as a Ray of its own would find them."""
    if experiment.resources.workers != "auto":
        return experiment
    return settled(experiment, torch.cuda.device_count() if torch.cuda.is_available() else 0)


def on_gpus_here(experiment: Experiment) -> bool:
    """Return whether the experiment, run on this machine, would run on its GPUs."""
    device = experiment.resources.device
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def settled(experiment: Experiment, gpus: int) -> Experiment:
    """Return the experiment with its number of ranks settled for this many whole GPUs."""
    return experiment.model_copy(update={"resources": experiment.resources.settled(gpus)})


def load_data(experiment: Experiment, like: Transform | None = None) -> Sources:
    """Return the experiment's data, to be split by many seeds; a limit draws rows by this one.

    What lies behind a URI is fetched for as long as it is read.

    Args:
        experiment: resolved.
        like: of the run whose columns a table must have; None where its own decide.

    Raises:
        ConfigError, DataError: bad data, or an address that cannot be used.
    """
    with data_at_hand(experiment.data) as (data, names):
        fitted = like and like.columns
        sources = load_sources(**data.of_sources(), seed=experiment.seed, fitted=fitted)
    return sources_by_uri(sources, names)


def with_strategy(experiment: Experiment, problem: Problem, verdict: Verdict) -> Prepared:
    """Return the run of one strategy over a problem that is loaded already."""
    num_pool, notes = int(verdict.keep_N.sum()), notes_of(experiment, problem, verdict)
    given = problem, verdict
    problem, verdict = _on_own_rows(experiment, problem, verdict)
    num_rows = int(verdict.keep_N.sum())
    phases = plan(experiment, num_pool, num_rows)
    model, size = _check_model_and_budget(experiment, problem, phases)
    names = {phase.strategy for phase in phases} - {KEPT}
    chooser = chooser_of(experiment, problem, verdict, names)
    identity = {
        "data": problem.parts.fingerprint,
        "name": problem.parts.pool.name,
        "parts": problem.parts.describe(),
        "pool": num_pool,
        "rows": num_rows,
        "model": model,
        "classes": list(problem.parts.pool.class_names),
        **skipped_identity(given[0].parts),
    }
    return Prepared(
        experiment=experiment,
        problem=problem,
        verdict=verdict,
        phases=phases,
        chooser=chooser,
        identity=identity,
        notes=notes,
        num_parameters=size,
        given=given,
    )


def skipped_identity(parts: Parts) -> dict[str, Any]:
    """Return what of the rows left out is part of a run's identity: {} where none is."""
    told = summary(parts.skipped)
    return {"skipped": told} if told else {}


def _on_own_rows(
    experiment: Experiment, problem: Problem, verdict: Verdict
) -> tuple[Problem, Verdict]:
    """Return what a control trains on that does not train on the pool alone."""
    strategy = experiment.selection.strategy
    if strategy not in ON_VALIDATION:
        return problem, verdict
    keep_N, alone = verdict.keep_N.numpy(), strategy == "validation-only"
    if strategy == "random-validation":
        keep_N = np.isin(problem.parts.pool.id_N, _random_ids(experiment, problem, verdict))
    parts = trained_on_validation(problem.parts, keep_N, alone=alone)
    # The pool's normalisation stays: it is part of the model, the same in every control.
    return replace(problem, parts=parts), filter_pool(parts.pool, ())


def _random_ids(experiment: Experiment, problem: Problem, verdict: Verdict) -> np.ndarray:
    """Return the ids that strategy random takes, for a control that adds others to them."""
    pool = int(verdict.keep_N.sum())
    budget = budget_of(experiment.selection.fraction, pool)
    phase = Phase(
        round=0,
        strategy="random",
        budget=budget,
        epochs=range(1),
        visits_before=0,
        total_visits=budget,
    )
    return chooser_of(experiment, problem, verdict, {"random"}).select(phase, _never).ids


def _never(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
    raise AssertionError("a random choice scores nothing")


def chooser_of(
    experiment: Experiment, problem: Problem, verdict: Verdict, names: Iterable[str]
) -> Chooser:
    """Return what turns phases of these strategies into selections."""
    selection = experiment.selection
    return Chooser(
        problem.parts,
        {name: strategy_of(name, selection) for name in names},
        verdict,
        candidates=selection.candidates,
        batch_size=selection.batch_size,
        seed=experiment.seed,
    )


def for_strategy(prepared: Prepared, strategy: str) -> Prepared:
    """Return the same experiment with another strategy; data and model are not loaded again."""
    selection = prepared.experiment.selection.model_copy(update={"strategy": strategy})
    experiment = prepared.experiment.model_copy(update={"selection": selection})
    return _told_why(with_strategy(experiment, *prepared.given), prepared.decision)


def with_numbers(prepared: Prepared, measure: Measure = seconds_of_a_step) -> Prepared:
    """Return the run with `auto` precision and layout as this CPU, measured once, is quickest.

    They become explicit options: every process computes alike, and a run that goes on elsewhere
    does too. Where there is nothing to decide (see `decided`), the run is what it was.
    """
    problem, verdict = prepared.given
    visits = sum(phase.visits for phase in prepared.phases)
    made = decided(problem, visits, prepared.experiment.resources.ranks, measure)
    if made is None:
        return prepared
    numbers, why = made
    training = numbers.of(prepared.experiment.training)
    experiment = prepared.experiment.model_copy(update={"training": training})
    return _told_why(with_strategy(experiment, replace(problem, training=training), verdict), why)


def _told_why(prepared: Prepared, why: str | None) -> Prepared:
    notes = prepared.notes if why is None else (*prepared.notes, why)
    return replace(prepared, notes=notes, decision=why)


def open_ledger(prepared: Prepared, path: str | Path, *, resume: bool = False) -> Ledger:
    """Return the run's ledger, with the bad rows that are left out listed; see `Ledger.open`."""
    ledger = Ledger.open(
        path,
        prepared.experiment,
        prepared.identity,
        {**environment(), "notes": list(prepared.notes)},
        parts=lambda: parts_table(prepared),
        resume=resume,
    )
    with ExitStack() as until_listed:
        until_listed.callback(ledger.close)
        given = prepared.given[0]
        list_once(ledger.path, given.parts)
        if ledger.done == 0:  # later, no manifest would name it: a run of an older version
            transform_once(ledger.path, given.transform)
        until_listed.pop_all()
    return ledger


@contextmanager
def tracked_ledger(
    prepared: Prepared, path: str | Path, *, resume: bool = False
) -> Generator[Ledger]:
    """Open the run's ledger and tell its rounds to whoever tracks the run; let go of both."""
    ledger, experiment = open_ledger(prepared, path, resume=resume), prepared.experiment
    try:
        with tracked(ledger.path, experiment.tracking, flatten(experiment.deciding)) as committed:
            ledger.committed = committed
            with fields(run=ledger.path.name):
                yield ledger
    finally:
        ledger.close()


def check_folder(prepared: Prepared, path: str | Path, *, resume: bool = False) -> None:
    """Refuse a run folder that `open_ledger` would refuse, before anything starts."""
    ledger = Ledger(Path(path).absolute(), prepared.experiment, prepared.identity)
    ledger.check(resume=resume, parts=lambda: parts_table(prepared))


def parts_table(prepared: Prepared) -> pa.Table:
    """Return (part, id, label, key, dropped): which id is where, and why some cannot be chosen."""
    return table_of_parts(prepared.problem.parts, prepared.verdict)


def new_run_folder(experiment: Experiment, name: str, root: str | Path = "runs") -> Path:
    """Return runs/<data>-<strategy>-<fraction>-s<seed>-<n>, the first n that is free."""
    selection = experiment.selection
    what = f"{selection.strategy}-{selection.fraction:g}-s{experiment.seed}"
    return new_folder(name, what, root)


def new_folder(name: str, what: str, root: str | Path = "runs") -> Path:
    """Return runs/<name>-<what>-<n>, the first that is free: [A-Za-z0-9][A-Za-z0-9._-]{0,99}."""
    room = min(60, 100 - len(f"-{what}-999999"))
    data = re.sub(r"[^A-Za-z0-9._]+", "_", name).strip("._")[:room] or "data"
    stem = f"{data}-{what}"
    for n in range(1, 1_000_000):
        path = Path(root).absolute() / f"{stem}-{n}"
        if not path.exists():
            return path
    raise RunFolderError(f"{root} holds a million runs of {stem}; give --run-dir.")


def _check_model_and_budget(
    experiment: Experiment, problem: Problem, phases: tuple[Phase, ...]
) -> tuple[str, int]:
    """Refuse what the model cannot train on; return its name and number of weights."""
    model = problem.check()
    workers, threads = experiment.resources.ranks, experiment.resources.threads_per_rank
    if threads > max(2, os.cpu_count() or 1):
        raise ConfigError(
            f"resources.threads_per_rank={threads} is more than this machine's {os.cpu_count()} "
            "cores; lower it."
        )
    rows = 2 if has_batch_norm(model) and not experiment.model.frozen else 1
    least = min(phase.budget for phase in phases)
    if least < rows * workers:
        raise ConfigError(
            f"a budget of {least} ids is too small for {workers} training ranks"
            f"{' (BatchNorm needs 2 per rank)' if rows == 2 else ''}; raise "
            f"--selection.fraction or lower --resources.workers."
        )
    if experiment.training.batch_size < rows * workers:
        raise ConfigError(
            f"training.batch_size={experiment.training.batch_size} is too small for {workers} "
            f"ranks; give at least {rows * workers}."
        )
    size = sum(parameter.numel() for parameter in model.parameters())
    name = resolved_name(experiment.model.name, problem.in_shape)
    return f"{name} ({size:,} parameters)", size


def notes_of(experiment: Experiment, problem: Problem, verdict: Verdict) -> tuple[str, ...]:
    """Return what a person should be told of the data and the budget before it starts."""
    parts, notes = problem.parts, []
    for part in (parts.pool, parts.validation, parts.tuning, parts.test):
        notes += [note for note in (part.notes if part else ()) if note not in notes]
    notes += note_of(parts.skipped)
    notes += untaught_notes(parts)
    notes += overlap_notes(parts)
    dropped = int((~verdict.keep_N).sum())
    if dropped:
        notes.append(f"the filters dropped {dropped:,} of {parts.pool.num_examples:,} pool rows")
    num_pool = parts.pool.num_examples - dropped
    budget = budget_of(experiment.selection.fraction, num_pool)
    if budget < parts.pool.num_classes:
        notes.append(
            f"the budget of {budget} is below the {parts.pool.num_classes} classes: some classes "
            "will have no example; raise --selection.fraction"
        )
    if experiment.model.frozen and _is_fresh(experiment.model.name):
        notes.append(
            f"model.frozen keeps the fresh, random weights of {experiment.model.name} before its "
            "head; load published ones in a factory of yours: --model.name module:factory"
        )
    looks = budget * num_pool
    if experiment.selection.strategy == "glister" and looks > MANY_LOOKS and _is_exact(experiment):
        notes.append(
            f"exact greedy makes {budget:,} picks one by one from {num_pool:,} ids, every round; "
            'too slow? --selection.glister.picks "blocks(50)", or --selection.candidates 4'
        )
    return tuple(notes)


def _is_fresh(name: str) -> bool:
    """Return whether a model of this name has weights that nobody trained."""
    return ":" not in name or name.startswith(("timm:", "torchvision:"))


def _is_exact(experiment: Experiment) -> bool:
    selection = experiment.selection
    return selection.glister.picks == "exact" and selection.candidates == 1
