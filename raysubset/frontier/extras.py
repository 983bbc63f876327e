"""What tuning needs beside raysubset itself: Tune, and Optuna where it is asked for."""

from __future__ import annotations

from importlib.util import find_spec

from raysubset.errors import ConfigError
from raysubset.frontier.settings import FrontierSettings


def check_extras(settings: FrontierSettings, *, local: bool) -> None:
    """Refuse what cannot be done without a helper that is not there.

    Raises:
        ConfigError: Optuna is not installed, or Tune is not used (`--local`).
    """
    optuna, asha = settings.search == "optuna", settings.early_stop == "asha"
    if optuna and find_spec("optuna") is None:
        raise ConfigError(
            '--search optuna needs Optuna, which is not installed: pip install "raysubset[optuna]"'
        )
    if local and (optuna or asha):
        option = "--search optuna" if optuna else "--early-stop asha"
        raise ConfigError(
            f"{option} is Ray Tune's, and --local runs without Ray; leave --local out, or give a "
            "grid without early stopping."
        )
