"""The plan of a frontier: every strategy x fraction x seed, and the controls beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raysubset.experiment import Experiment
from raysubset.frontier.settings import FrontierSettings

FULL = "full"
ADAPTIVE = "adaptive-random"
PLAIN = "adaptive-random-plain"
EQUAL_TIME = "adaptive-random-equal-time"
SAME_ROWS_CONTROLS = (ADAPTIVE, "full-compressed")
VALIDATION_CONTROLS = ("full-validation-compressed", "validation-only")
Role = Literal["strategy", "control", "reference"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a frontier.

    Attributes:
        row: what the table calls it: a strategy's name, or a variant of adaptive random's.
        role: asked about, control, or the reference (full).
        fraction: its column of the frontier; 1 for full.
        seed: parts, initial weights, order: trials of one seed are paired.
        experiment: what is run, fully resolved.
    """

    row: str
    role: Role
    fraction: float
    seed: int
    experiment: Experiment

    @property
    def name(self) -> str:
        """The trial's folder: unique in its frontier."""
        return f"{self.row}-{self.fraction:.12g}-s{self.seed}"


def trials_of(base: Experiment, settings: FrontierSettings) -> list[Trial]:
    """Return every trial that can be planned before one has run, seed by seed.

    A frontier that is stopped early so holds whole seeds, whose pairs can be compared.
    """
    trials: list[Trial] = []
    for seed in seeds_of(base, settings):
        trials.append(_trial(base, FULL, "reference", 1.0, seed, {"strategy": FULL}))
        for fraction in sorted(settings.fractions):
            for row, role, changes in _rows(base, settings):
                trials.append(_trial(base, row, role, fraction, seed, changes))
    return trials


def equal_time_trials(
    base: Experiment, settings: FrontierSettings, share_by_fraction: Mapping[float, float]
) -> list[Trial]:
    """Return adaptive random with extra epochs worth the strategy's selection seconds.

    Args:
        base: the experiment.
        settings: what is compared.
        share_by_fraction: seconds of scoring, greedy and other over seconds of training, as
            measured at that fraction; all seeds share it, so that pairs stay pairs.
    """
    trials: list[Trial] = []
    for seed in seeds_of(base, settings):
        for fraction, share in sorted(share_by_fraction.items()):
            epochs = equal_time_epochs(base.training.epochs, fraction, share)
            changes = {"strategy": ADAPTIVE, "training": {"epochs": epochs}}
            trials.append(_trial(base, EQUAL_TIME, "control", fraction, seed, changes))
    return trials


def num_equal_time(base: Experiment, settings: FrontierSettings) -> int:
    """Return how many trials at equal time there will be, if every strategy's trial succeeds."""
    timed = settings.controls and "glister" in settings.strategies
    return settings.seeds * len([f for f in settings.fractions if f < 1]) if timed else 0


def equal_time_epochs(epochs: int, fraction: float, share: float) -> int:
    """Return E * (1 + share), rounded; never more visits than full has, which is in the table."""
    return max(epochs, min(round(epochs * (1 + share)), int(epochs / fraction)))


def seeds_of(base: Experiment, settings: FrontierSettings) -> range:
    """Return the seeds, the experiment's own first."""
    return range(base.seed, base.seed + settings.seeds)


def reads_validation(base: Experiment, strategies: Iterable[str]) -> bool:
    """Return whether any strategy uses labels of the validation rows, by itself or by quotas."""
    return "glister" in strategies or base.selection.balance == "validation"


def controls_of(base: Experiment, settings: FrontierSettings) -> list[str]:
    """Return the rows of the controls that can be planned, adaptive random first."""
    if not settings.controls:
        return []
    rows = [*SAME_ROWS_CONTROLS]
    if base.selection.balance != "none" or base.selection.filters:
        rows.insert(1, PLAIN)
    if reads_validation(base, settings.strategies):
        rows += VALIDATION_CONTROLS
    return [row for row in rows if row not in settings.strategies]


def _rows(
    base: Experiment, settings: FrontierSettings
) -> Sequence[tuple[str, Role, dict[str, Any]]]:
    asked = [s for s in settings.strategies if s != FULL]
    rows: list[tuple[str, Role, dict[str, Any]]] = [
        (name, "strategy", {"strategy": name}) for name in asked
    ]
    for row in controls_of(base, settings):
        plain = {"strategy": ADAPTIVE, "balance": "none", "filters": ()}
        rows.append((row, "control", plain if row == PLAIN else {"strategy": row}))
    return rows


def _trial(
    base: Experiment, row: str, role: Role, fraction: float, seed: int, changes: dict[str, Any]
) -> Trial:
    own = {k: v for k, v in changes.items() if k != "training"}
    selection = base.selection.model_copy(update={**own, "fraction": fraction})
    training = base.training.model_copy(update=changes.get("training", {}))
    update = {"selection": selection, "training": training, "seed": seed}
    experiment = base.model_copy(update=update)
    return Trial(row=row, role=role, fraction=fraction, seed=seed, experiment=experiment)
