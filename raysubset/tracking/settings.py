"""Where a run reports, and what is refused before it starts: credentials, and what is missing."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from raysubset.errors import ConfigError
from raysubset.learn.settings import Settings, Text
from raysubset.redaction import redacted

_LOCAL = re.compile(r"(?:file:(?://)?|sqlite:///)?(?P<path>[^:]*)$")


def _off(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in ("", "none", "off") else value


def _uri(uri: str | None) -> str | None:
    """Refuse a URI with credentials, and a store whose place depends on the working directory."""
    if uri is None:
        return None
    local, known = _LOCAL.match(uri), uri == "databricks" or re.match(r"[\w+.-]+://.", uri)
    if local is None and redacted(uri) != uri:
        raise ValueError(
            "must hold no credentials, because options are written down; put the credentials in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if not (known if local is None or uri == "databricks" else local["path"].startswith("/")):
        raise ValueError("must be an address such as http://host:5000, or an absolute path")
    return uri


class TrackingSettings(Settings):
    """Where a run reports besides its folder; it changes nothing that the run gives."""

    mlflow: Annotated[str | None, BeforeValidator(_off), AfterValidator(_uri)] = None
    """An MLflow server, for instance http://host:5000 (default: none); its credentials stay in
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""

    mlflow_experiment: Annotated[Text, Field(min_length=1)] = "raysubset"
    """The MLflow experiment that holds the runs; made where there is none."""

    wandb: Annotated[Text | None, BeforeValidator(_off)] = None
    """A Weights & Biases project, or ENTITY/PROJECT (default: none); its key stays in
    WANDB_API_KEY."""


def import_trackers(settings: TrackingSettings) -> None:
    """Import the trackers that are asked for: seconds of it beside a round would count as its own.

    Raises:
        ConfigError: one is not installed; it names the extra.
    """
    for name in ("mlflow", "wandb"):
        if getattr(settings, name) is None:
            continue
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigError(
                f'--tracking.{name} needs the extra: pip install "raysubset[{name}]" ({error}); '
                f"--tracking.{name} none runs without."
            ) from None
