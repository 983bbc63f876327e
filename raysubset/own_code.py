"""Own code: `module:factory` counts where a person wrote it, and not where a folder says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysubset.errors import ConfigError

if TYPE_CHECKING:
    from raysubset.experiment import Experiment


def refuse_stored_code(stored: Mapping[str, Any], given: Experiment | None, where: object) -> None:
    """Refuse to run code because a folder says so: `module:factory` counts where it was written.

    A run folder may come from anybody. What it names is imported only if the person names it too,
    among the options or in an experiment file of their own.

    Args:
        stored: the values of an experiment that was read from a run folder.
        given: the options of the command.
        where: the folder, for the message.

    Raises:
        ConfigError: the folder names code and the options do not; the remedy is the option.
    """
    section = stored.get("model", {})
    name = str(section.get("name", "")) if isinstance(section, Mapping) else ""
    if ":" in name and (given is None or "name" not in given.model.model_fields_set):
        raise ConfigError(
            f"{where} says that its model is {name}, and code is not run because a folder names "
            f"it; if it is yours, add --model.name {name}"
        )
