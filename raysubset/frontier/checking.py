"""What a frontier is refused for, before any of its trials runs."""

from __future__ import annotations

from collections.abc import Sequence

from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.frontier.candidates import axes_of, grid_of
from raysubset.frontier.overrides import in_words
from raysubset.frontier.plan import Trial
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.trial import Data
from raysubset.frontier.tuning import with_values
from raysubset.preparation import Prepared, prepare, with_strategy


def check_trials(
    base: Experiment, settings: FrontierSettings, trials: Sequence[Trial], data: Data
) -> Prepared:
    """Refuse what a trial, or a candidate, would be refused for; return the first one, ready.

    Args:
        base: the experiment.
        settings: what is swept.
        trials: of the first seed.
        data: loaded once.

    Raises:
        ConfigError, DataError, ModelError, BudgetError: named with the remedy.
    """
    axes = axes_of(base, settings)
    asked = next((t for t in trials if t.role == "strategy"), trials[0])
    first = prepare(asked.experiment, data.of(base.seed))
    for trial in trials:
        with_strategy(trial.experiment, *first.given)
    # A candidate is refused for what it changes; the smallest fraction has the least room for it.
    least = [t for t in trials if t.fraction in (1.0, min(t.fraction for t in trials))]
    for values in grid_of(axes) if axes else []:
        try:
            given = prepare(with_values(asked, values).experiment, data.of(base.seed)).given
            for trial in least:
                with_strategy(with_values(trial, values).experiment, *given)
        except ConfigError as error:
            raise type(error)(f"candidate {in_words(values)}: {error}") from None
    return first
