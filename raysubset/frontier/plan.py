"""The plan of a frontier: every strategy x fraction x seed, and the controls beside them.

A fraction has two meanings, never mixed in one frontier: goal faster visits it in every epoch
(papers: adaptive), goal smaller keeps it and deletes the rest (papers: static).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raysubset.errors import ConfigError
from raysubset.experiment import WHOLE_POOL, Experiment
from raysubset.frontier.overrides import Values, suffix_of
from raysubset.frontier.settings import FrontierSettings

FULL = "full"
ADAPTIVE = "adaptive-random"
PLAIN = "adaptive-random-plain"
EQUAL_TIME = "adaptive-random-equal-time"
RANDOM = "random"
RANDOM_PLAIN = "random-plain"
Goal = Literal["faster", "smaller"]
SAME_ROWS_CONTROLS: Mapping[Goal, tuple[str, ...]] = {
    "faster": (ADAPTIVE, "full-compressed"),
    "smaller": (RANDOM,),
}
"""Controls on pool rows, the one to beat first. Goal smaller deletes the pool, so nothing that
visits all of it is a control there."""
VALIDATION_CONTROLS: Mapping[Goal, tuple[str, ...]] = {
    "faster": ("full-validation-compressed", "validation-only"),
    "smaller": ("random-validation", "validation-only"),
}
PLAIN_CONTROL: Mapping[Goal, str] = {"faster": PLAIN, "smaller": RANDOM_PLAIN}
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
        overrides: what was tuned in it, field by field.
    """

    row: str
    role: Role
    fraction: float
    seed: int
    experiment: Experiment
    overrides: Values = field(default_factory=dict[str, Any])

    @property
    def cell(self) -> str:
        """Row and fraction: what is tuned as one."""
        return f"{self.row}-{self.fraction:.12g}"

    @property
    def name(self) -> str:
        """The trial's folder: unique in its frontier."""
        return f"{self.cell}-s{self.seed}{suffix_of(self.overrides)}"


def goal_of(base: Experiment) -> Goal:
    """Return what a fraction means: visited in every epoch, or kept for good."""
    return base.selection.goal


def check_goal(base: Experiment, settings: FrontierSettings) -> None:
    """Refuse strategies that see more than goal smaller keeps.

    Raises:
        ConfigError: the strategy, and the remedy.
    """
    found = [name for name in settings.strategies if name in WHOLE_POOL]
    if goal_of(base) == "smaller" and found:
        raise ConfigError(
            f"--strategies {','.join(found)}: goal smaller deletes what is not kept, and "
            f"{found[0]} visits the whole pool; leave it out (random is the control there), or "
            "ask with --goal faster."
        )


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
    timed = settings.controls and "glister" in settings.strategies and goal_of(base) == "faster"
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
    goal = goal_of(base)
    rows = [*SAME_ROWS_CONTROLS[goal]]
    if base.selection.balance != "none" or base.selection.filters:
        rows.insert(1, PLAIN_CONTROL[goal])
    if reads_validation(base, settings.strategies):
        rows += VALIDATION_CONTROLS[goal]
    return [row for row in rows if row not in settings.strategies]


def _rows(
    base: Experiment, settings: FrontierSettings
) -> Sequence[tuple[str, Role, dict[str, Any]]]:
    asked = [s for s in settings.strategies if s != FULL]
    rows: list[tuple[str, Role, dict[str, Any]]] = [
        (name, "strategy", {"strategy": name}) for name in asked
    ]
    goal = goal_of(base)
    plain = {"strategy": SAME_ROWS_CONTROLS[goal][0], "balance": "none", "filters": ()}
    for row in controls_of(base, settings):
        rows.append((row, "control", plain if row == PLAIN_CONTROL[goal] else {"strategy": row}))
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
