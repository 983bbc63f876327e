"""The table of a frontier: one row per finished trial, read back from the run folders.

Every figure of a report comes from here, and every figure here from a ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from raysubset.engine import Outcome
from raysubset.frontier.overrides import in_words
from raysubset.frontier.plan import Role, Trial
from raysubset.frontier.target import Judge, climb_of
from raysubset.frontier.trial import FAILED, TRIAL, TRIALS, is_finished, read_object, trial_folder
from raysubset.preparation import ON_VALIDATION
from raysubset.records import chosen_paths, read_history, read_table

_READS_VALIDATION = ("glister", *ON_VALIDATION)


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """What one finished trial gave.

    Attributes:
        trial: its folder's name.
        row: what the table calls it.
        role: asked about, control or reference.
        fraction: its column of the frontier.
        seed: the pairing.
        epochs: passes over a subset (or over all rows).
        budget: ids that an epoch visits.
        num_pool: N after filters.
        num_validation: validation rows whose labels the run used to select or to train; 0 if none.
        num_test: test examples.
        visits: example visits in training.
        distinct: distinct examples trained on.
        test_accuracy: the share that is right.
        test_macro_f1: mean of the classes' F1.
        class_accuracy: per class; NaN where the test part has no example.
        seconds_start: starting the process and preparing the data; charged to no strategy.
        seconds_scoring: forward passes for selection.
        seconds_greedy: choosing.
        seconds_training: training steps.
        seconds_other: hand-over and checkpoints.
        ceiling: the largest speed-up possible, 1 / (f + (1 + V / N) / (3 R)).
        mode: "local", all in the trial's own process, or "crew", with ranks of its own.
        judge: the part on which the climb was watched; see `target.Climb`.
        climb_s: seconds at the end of each round.
        climb_accuracy: accuracy on the judge there.
        options: what was tuned, for instance "training.lr=0.1"; "" where nothing was.
    """

    trial: str
    row: str
    role: Role
    fraction: float
    seed: int
    epochs: int
    budget: int
    num_pool: int
    num_validation: int
    num_test: int
    visits: int
    distinct: int
    test_accuracy: float
    test_macro_f1: float
    class_accuracy: tuple[float, ...]
    seconds_start: float
    seconds_scoring: float
    seconds_greedy: float
    seconds_training: float
    seconds_other: float
    ceiling: float
    mode: str = "local"
    judge: Judge = "none"
    climb_s: tuple[float, ...] = ()
    climb_accuracy: tuple[float, ...] = ()
    options: str = ""

    @property
    def seconds(self) -> float:
        """Wall-clock of the method: everything but process start and evaluation."""
        return self.seconds_training + self.seconds_selection

    @property
    def seconds_selection(self) -> float:
        """Scoring, greedy, hand-over and waiting for checkpoints."""
        return self.seconds_scoring + self.seconds_greedy + self.seconds_other


def rows_in(folder: Path, trials: Iterable[Trial]) -> list[TrialRow]:
    """Return the rows of the trials that are finished, in their order."""
    return [_row(folder, trial) for trial in trials if is_finished(folder, trial)]


def failures_in(folder: Path, trials: Iterable[Trial]) -> dict[str, str]:
    """Return trial -> why it failed, of those that did and were not finished since."""
    failed: dict[str, str] = {}
    for trial in trials:
        path = trial_folder(folder, trial) / FAILED
        if path.is_file() and not is_finished(folder, trial):
            failed[trial.name] = str(read_object(path).get("error", f"{path} cannot be read"))
    return failed


def to_table(rows: Sequence[TrialRow]) -> pa.Table:
    """Return the rows as Arrow, one column per field."""
    names = [f.name for f in fields(TrialRow)]
    return pa.table({name: pa.array([getattr(row, name) for row in rows]) for name in names})


def from_table(table: pa.Table) -> list[TrialRow]:
    """Return the rows of a stored frontier."""
    made: list[TrialRow] = []
    for values in table.to_pylist():
        for name in ("class_accuracy", "climb_s", "climb_accuracy"):
            values[name] = tuple(values[name])
        made.append(TrialRow(**values))
    return made


def chosen_ids(folder: Path, trial: str) -> np.ndarray:
    """Return the distinct ids that a trial trained on. Shape: int64 (K,), ascending."""
    paths = chosen_paths(folder / TRIALS / trial)
    return np.unique(np.concatenate([read_table(p)["id"].to_numpy() for p in paths]))


def _row(folder: Path, trial: Trial) -> TrialRow:
    path = trial_folder(folder, trial)
    result = read_object(path / "result.json")
    told, identity = read_object(path / TRIAL), read_object(path / "fingerprint.json")
    outcome = Outcome.of(result)
    rounds = [line for line in read_history(path) if line["kind"] == "round"]
    on_validation = trial.experiment.selection.strategy in ON_VALIDATION
    climb = climb_of(rounds, trains_on_validation=on_validation)
    accuracies = [np.nan if a is None else float(a) for a in result["test_class_accuracy"]]
    return TrialRow(
        trial=trial.name,
        row=trial.row,
        role=trial.role,
        fraction=trial.fraction,
        seed=trial.seed,
        epochs=outcome.epochs,
        budget=outcome.budget,
        num_pool=outcome.num_pool,
        num_validation=identity["parts"]["validation"] if _uses_validation(trial) else 0,
        num_test=int(result["test_examples"]),
        visits=outcome.visits,
        distinct=outcome.distinct,
        test_accuracy=outcome.test_accuracy,
        test_macro_f1=outcome.test_macro_f1,
        class_accuracy=tuple(accuracies),
        seconds_start=float(told["seconds_start"]),
        seconds_scoring=outcome.seconds_scoring,
        seconds_greedy=outcome.seconds_greedy,
        seconds_training=outcome.seconds_training,
        seconds_other=outcome.seconds_other,
        ceiling=outcome.ceiling,
        mode=str(told.get("mode", "local")),
        judge=climb.judge,
        climb_s=climb.seconds,
        climb_accuracy=climb.accuracy,
        options=in_words(trial.overrides),
    )


def _uses_validation(trial: Trial) -> bool:
    """Return whether validation labels reach the choice (quotas included) or the training."""
    selection = trial.experiment.selection
    quotas = selection.strategy in ("random", "adaptive-random")
    return selection.strategy in _READS_VALIDATION or (quotas and selection.balance == "validation")
