"""Tuning: every row and fraction chooses among the same candidates, by the tuning part alone.

A candidate is the trial of the first seed with some fields changed. What is chosen serves all
seeds, so the first seed's trial is there already. The test part is never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raysubset.experiment import Experiment
from raysubset.files import write_json
from raysubset.frontier.candidates import (
    axes_for,
    axes_of,
    changed,
    grid_of,
    is_tuned,
    own_values,
)
from raysubset.frontier.overrides import Values
from raysubset.frontier.plan import Trial
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.trial import FAILED, is_finished, note, read_object, trial_folder
from raysubset.storage.staging import keep

TUNED, STOPPED = "tuned.json", "stopped.json"
TUNING_SHARE = 0.1
"""The tuning part, as a share of the train rows, where the experiment names none."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What one candidate gave.

    Attributes:
        values: of the fields that are tuned.
        tuning_accuracy: after its last round; None where it has none.
        epochs: how far it came; None where nobody knows.
        out: why it could not be chosen; "" where it could.
    """

    values: Values
    tuning_accuracy: float | None
    epochs: int | None = None
    out: str = ""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a row and fraction chose.

    Attributes:
        row: what the table calls it.
        fraction: of the pool.
        seed: of the candidates.
        tuning_rows: examples that decided.
        tried: the candidates in their order.
        chosen: what all of its trials use; {} where no candidate came through.
    """

    row: str
    fraction: float
    seed: int
    tuning_rows: int
    tried: tuple[Tried, ...]
    chosen: Values


RunTrials = Callable[[Sequence[Trial]], None]
TuneCells = Callable[[Sequence[Trial]], Mapping[str, Sequence[Values]]]
"""Takes a trial of the first seed for each cell, sees that every candidate of it ends, and returns
cell -> the values that were tried."""


def with_tuning_part(base: Experiment, settings: FrontierSettings) -> Experiment:
    """Return the experiment with a tuning part and one test part, where a frontier tunes."""
    if not is_tuned(settings):
        return base
    tuning = TUNING_SHARE if base.data.tuning is None else base.data.tuning
    # One test part for all seeds: rows that choose for seed 0 would else test other seeds.
    test_seed = base.seed if base.data.test_seed is None else base.data.test_seed
    return changed(base, {"data.tuning": tuning, "data.test_seed": test_seed})


def with_values(trial: Trial, values: Values) -> Trial:
    """Return the trial with these fields changed; the same trial for no fields."""
    if not values:
        return trial
    overrides = dict(sorted(values.items()))  # the order in which JSON gives them back
    return replace(trial, experiment=changed(trial.experiment, values), overrides=overrides)


def cells_of(base: Experiment, settings: FrontierSettings, trials: Sequence[Trial]) -> list[Trial]:
    """Return a trial of the first seed for every cell that has something to choose."""
    if not is_tuned(settings):
        return []
    axes = axes_of(base, settings)
    first = [trial for trial in trials if trial.seed == base.seed]
    return [t for t in first if axes_for(t.experiment.selection.strategy, axes)]


def candidates_of(base: Experiment, settings: FrontierSettings, cell: Trial) -> list[Trial]:
    """Return the candidates of a cell's grid: the same values for every cell they mean anything."""
    axes = axes_for(cell.experiment.selection.strategy, axes_of(base, settings))
    return [with_values(cell, values) for values in grid_of(axes)]


def applied(trials: Sequence[Trial], tuned: Mapping[str, Tuned]) -> list[Trial]:
    """Return the trials with what their cells chose."""
    return [with_values(t, tuned[t.cell].chosen) if t.cell in tuned else t for t in trials]


def is_ended(folder: Path, candidate: Trial) -> bool:
    """Return whether a candidate needs no run: it is finished, or was stopped early."""
    return is_finished(folder, candidate) or bool(_stop_of(folder, candidate))


def grid_tuner(
    folder: Path, base: Experiment, settings: FrontierSettings, run_trials: RunTrials
) -> TuneCells:
    """Return what tunes cells by running their whole grids with what runs any trials."""

    def tune(cells: Sequence[Trial]) -> Mapping[str, Sequence[Values]]:
        listed = {cell.cell: candidates_of(base, settings, cell) for cell in cells}
        everyone = [one for own in listed.values() for one in own]
        run_trials([one for one in everyone if not is_ended(folder, one)])
        return {cell: [one.overrides for one in own] for cell, own in listed.items()}

    return tune


def tune_missing(
    folder: Path,
    base: Experiment,
    settings: FrontierSettings,
    trials: Sequence[Trial],
    tune: TuneCells,
) -> None:
    """Choose for every cell of these trials that has not chosen yet, and write it down, once."""
    known = read_tuned(folder)
    cells = [cell for cell in cells_of(base, settings, trials) if cell.cell not in known]
    if not cells:
        return
    listed = tune(cells)
    for cell in cells:
        candidates = [with_values(cell, values) for values in listed[cell.cell]]
        tried = [tried_of(folder, candidate) for candidate in candidates]
        ended = [one for one in tried if one is not None]
        if len(ended) == len(tried):
            known[cell.cell] = _tuned(folder, base, cell, candidates, ended)
    write_json(folder / TUNED, {name: asdict(one) for name, one in known.items()})
    keep(folder / TUNED)


def choose(tried: Sequence[Tried], own: Values) -> Values:
    """Return the values with the highest tuning accuracy; {} where no candidate came through.

    Of equals the nearest to the experiment's own values (numbers by the ratio), then the earlier.
    """
    able = [one for one in tried if not one.out and one.tuning_accuracy is not None]
    if not able:
        return {}
    best = max(one.tuning_accuracy or 0.0 for one in able)
    equals = [one for one in able if one.tuning_accuracy == best]
    return min(equals, key=lambda one: _distance(one.values, own)).values


def read_tuned(folder: Path) -> dict[str, Tuned]:
    """Return cell -> what it chose; a damaged entry is chosen anew, from what is on disk."""
    found: dict[str, Tuned] = {}
    for cell, entry in read_object(folder / TUNED).items():
        try:
            values: dict[str, Any] = {**entry, "chosen": dict(entry["chosen"])}
            values["tried"] = tuple(Tried(**one) for one in entry["tried"])
            found[cell] = Tuned(**values)
        except (KeyError, TypeError, ValueError):
            continue
    return found


def note_stop(folder: Path, candidate: Trial, accuracy: float, epochs: int) -> None:
    """Record in its run folder that a candidate was stopped early."""
    note(candidate, folder, STOPPED, {"tuning_accuracy": accuracy, "epochs": epochs})


def stop_told(folder: Path, candidate: Trial) -> str:
    """Return how far a candidate came that was stopped early; "" for any other."""
    stop = _stop_of(folder, candidate)
    if not stop or is_finished(folder, candidate):
        return ""
    accuracy = 100 * stop["tuning_accuracy"]
    return f"stopped early after {stop['epochs']} epochs at tuning accuracy {accuracy:.1f} %"


def _stop_of(folder: Path, candidate: Trial) -> dict[str, Any]:
    stop = read_object(trial_folder(folder, candidate) / STOPPED)
    return stop if {"tuning_accuracy", "epochs"} <= stop.keys() else {}


def tried_of(folder: Path, candidate: Trial) -> Tried | None:
    """Return what the run folder of a candidate says; None before it has ended."""
    path, values = trial_folder(folder, candidate), candidate.overrides
    if is_finished(folder, candidate):
        result = read_object(path / "result.json")
        accuracy, epochs = result["tuning_accuracy"], result["epochs"]
        return Tried(values=values, tuning_accuracy=accuracy, epochs=epochs)
    stop = _stop_of(folder, candidate)
    if stop:
        told = stop_told(folder, candidate)
        accuracy, epochs = stop["tuning_accuracy"], stop["epochs"]
        return Tried(values=values, tuning_accuracy=accuracy, epochs=epochs, out=told)
    failure = read_object(path / FAILED)
    if not failure:
        return None
    return Tried(values=values, tuning_accuracy=None, out=f"failed: {failure.get('error', '')}")


def _tuned(
    folder: Path,
    base: Experiment,
    cell: Trial,
    candidates: Sequence[Trial],
    tried: Sequence[Tried],
) -> Tuned:
    identities = [read_object(trial_folder(folder, c) / "fingerprint.json") for c in candidates]
    rows = max((int(i["parts"]["tuning"]) for i in identities if "parts" in i), default=0)
    return Tuned(
        row=cell.row,
        fraction=cell.fraction,
        seed=cell.seed,
        tuning_rows=rows,
        tried=tuple(tried),
        chosen=choose(tried, own_values(base, candidates[0].overrides)),
    )


def _distance(values: Values, own: Values) -> float:
    """Return how far values lie from the experiment's own, summed over the fields."""
    apart = (_apart(values[field], own[field]) for field in values)
    return round(sum(apart), 9)  # twice and half as large are equally far, to the last bit


def _apart(value: Any, own: Any) -> float:
    if value == own:
        return 0.0
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (value, own))
    if not numbers:
        return 1.0
    return abs(math.log(value / own)) if value > 0 and own > 0 else abs(value - own)
