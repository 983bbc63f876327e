"""A frontier small enough for a test: 200 digits, an MLP, a dozen trials of 0.1 s."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from raysubset.engine import Silence
from raysubset.experiment import Experiment, nest
from raysubset.frontier.plan import Trial
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.sweep import RunTrials, Sweep, open_folder, run_here
from raysubset.frontier.table import TrialRow
from raysubset.frontier.trial import Data
from tests.small_runs import SMALL

Ended = list[tuple[str, str | None]]


def sweep(folder: Path, *, settings: dict[str, Any] | None = None, **options: Any) -> Sweep:
    """Return the small frontier with `section__option=value` changes."""
    own = {k.replace("__", "."): v for k, v in options.items()}
    resources = {"resources.workers": 1, "resources.scorers": 1, "resources.max_failures": 0}
    picks = {"selection.glister.picks": "blocks(3)"}
    values = {"fractions": "0.2,0.5", "strategies": "glister", "seeds": 3} | (settings or {})
    return Sweep(
        folder=folder,
        base=Experiment.of(nest(SMALL | resources | picks | own)),
        settings=FrontierSettings.model_validate(values),
    )


def begin(of: Sweep, *, resume: bool) -> None:
    """Open a frontier's folder and let go of it again."""
    with open_folder(of, resume=resume):
        pass


def here(of: Sweep, ended: Ended | None = None) -> RunTrials:
    """Return what runs trials in this process; `ended` hears of each."""

    def told(trial: Trial, failure: str | None) -> None:
        if ended is not None:
            ended.append((trial.name, failure))

    return run_here(of, Data(of.base), lambda _: nullcontext(Silence()), told)


def given(rows: list[TrialRow]) -> dict[str, tuple[Any, ...]]:
    """Return what must not depend on where a trial ran: everything but seconds."""
    return {
        r.trial: (r.test_accuracy, r.class_accuracy, r.visits, r.distinct, r.num_validation)
        for r in rows
    }
