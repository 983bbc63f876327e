"""Own code: `module:factory` counts where a person wrote it, and not where a folder says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysubset.errors import ConfigError
from raysubset.learn.factories import names_a_factory
from raysubset.learn.settings import is_of_registry

if TYPE_CHECKING:
    from raysubset.experiment import Experiment

WHAT = {"name": "model", "adapter": "adapter"}
"""Options of the section `model` that may name code, and what a message calls it."""


def refuse_stored_code(
    stored: Mapping[str, Any],
    given: Experiment | None,
    where: object,
    file: Mapping[str, Any] | None = None,
) -> None:
    """Refuse to run code because a folder says so: `module:factory` counts where it was written.

    A run folder may come from anybody. What it names is imported only if the person names it too,
    among the options or in an experiment file of their own.

    Args:
        stored: the values of an experiment that was read from a run folder.
        given: the options of the command.
        where: the folder, for the message.
        file: the values of an experiment file of the person's own, which count as options do.

    Raises:
        ConfigError: the folder names code and the options do not; the remedy is the option.
    """
    model = set() if given is None else given.model.model_fields_set
    for option, name in code_of(_section(stored, "model")).items():
        if option not in {*model, *_section(file, "model")}:
            raise ConfigError(
                f"{where} says that its {WHAT[option]} is {name}, and code is not run because a "
                f"folder names it; if it is yours, add --model.{option} {name}"
            )
    data = set() if given is None else given.data.model_fields_set
    for field, code in code_of_data(_section(stored, "data")).items():
        if field not in {*data, *_section(file, "data")}:
            option = "--data" if field == "path" else f"--data.{field}"
            raise ConfigError(
                f"{where} says that its data comes from {code}, and code is not run because a "
                f"folder names it; if it is yours, add {option} {code}"
            )


def _section(values: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    section = (values or {}).get(name, {})
    return section if isinstance(section, Mapping) else {}


def code_of(section: Mapping[str, Any]) -> dict[str, str]:
    """Return option -> name, for those of the section `model` that name a person's own code.

    A model of timm or torchvision is none: its name is looked up in a list.
    """
    named = {option: str(section.get(option) or "") for option in WHAT}
    return {
        option: name
        for option, name in named.items()
        if ":" in name and not (option == "name" and is_of_registry(name))
    }


def code_of_data(section: Mapping[str, Any]) -> dict[str, str]:
    """Return what of the section `data` may run code: field -> module:factory."""
    named = {field: section.get(field) for field in ("path", "validation", "tuning", "test")}
    forced = section.get("format") == "factory"
    return {
        field: text
        for field, text in named.items()
        if isinstance(text, str) and (forced or names_a_factory(text))
    }
