"""Whether a used run folder is this run: what differs, in lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysubset.errors import RunFolderError
from raysubset.experiment import Experiment, read_yaml
from raysubset.storage.staging import shown

# Options that change where a run runs, not what it gives: a resumed run may differ in them.
FREE_ON_RESUME = (
    "resources.scorers",
    "resources.placement",
    "resources.start_timeout_s",
    "resources.autoscaler_timeout_s",
    "resources.call_timeout_s",
    "resources.max_failures",
    "resources.keep_checkpoints",
    "resources.checkpoint_every_s",
)


def config_differences(stored: Path, asked: Experiment) -> list[str]:
    """Return what differs between a stored experiment and the one asked for.

    Args:
        stored: its YAML.
        asked: resolved.
    """
    lines = Experiment.of(read_yaml(stored)).differences(asked)
    return [line for line in lines if not line.startswith(FREE_ON_RESUME)]


def data_differences(stored: Path, identity: Mapping[str, Any]) -> list[str]:
    """Return what differs between a stored fingerprint and the data (and model) at hand.

    Raises:
        RunFolderError: the file is damaged.
    """
    try:
        before = json.loads(stored.read_text()) if stored.is_file() else {}
    except ValueError:
        raise RunFolderError(
            f"{shown(stored)} is damaged (not JSON), so this run cannot be resumed; choose "
            "another --run-dir."
        ) from None
    mine = json.loads(json.dumps(identity))
    keys = [k for k in {**before, **mine} if before.get(k) != mine.get(k)]
    return [f"data {key}: {before.get(key)} -> {mine.get(key)}" for key in sorted(keys)]
