"""YAML files: read safely, whoever wrote them, and told by line where something is wrong.

No tags (a tag can name code), no key written twice, no nesting or aliases beyond what a person
writes: a few lines of YAML can stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from raysubset.errors import ConfigError

MAX_YAML_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
# libyaml's, where PyYAML was built with it: ten times as fast as the one in Python.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a YAML mapping.

    Raises:
        ConfigError: no such file, one that is too large, or YAML that is not plain; by line.
    """
    text = _text(Path(path))
    try:
        _refuse_tricks(text)
        values = _UniqueKeys(text).get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"experiment file {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"experiment file {path} must hold sections (data:, selection:, ...).")
    return values


class Lines:
    """Where in a file that `read_yaml` read a key stands."""

    def __init__(self, path: str | Path) -> None:
        """Read the file again."""
        self._root: Any = yaml.compose(_text(Path(path)), Loader=_Safe)

    def of(self, keys: Sequence[str]) -> int | None:
        """Return the line of the innermost of nested keys that is written there, from 1."""
        node, line = self._root, None
        for wanted in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            found = [(k, v) for k, v in pairs if isinstance(k, yaml.ScalarNode)]
            at = next(((k, v) for k, v in found if k.value == wanted), None)
            if at is None:
                break
            line, node = at[0].start_mark.line + 1, at[1]
        return line


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise ConfigError(f"experiment file {path} does not exist; give a YAML file.")
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError(f"experiment file {path} is larger than 1 MB; that is no experiment.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"experiment file {path} cannot be read ({error.strerror}); give a YAML file."
        ) from None
    except ValueError as error:  # not UTF-8; or a path that no system call takes
        raise ConfigError(f"experiment file {path!s:.200} is not valid YAML: {error}") from None


def _refuse_tricks(text: str) -> None:
    """Refuse tags, which name code, and what costs more than it says: deep nesting, many aliases.

    Events come one by one, so that this costs no memory and no recursion whatever the file holds.
    """
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_Safe):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        tag = getattr(event, "tag", None)
        if tag or depth > MAX_DEPTH or aliases > MAX_ALIASES:
            deep = f"nesting deeper than {MAX_DEPTH}"
            many = deep if depth > MAX_DEPTH else f"more than {MAX_ALIASES} aliases (*name)"
            trick = f"the tag {tag:.100}" if tag else many
            raise ValueError(f"{trick} in line {event.start_mark.line + 1}; write it out plainly")


class _UniqueKeys(_Safe):
    """A safe loader that refuses a key written twice, where YAML silently keeps the last."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take in what << names, each key once: merges of merges would double without end."""
        super().flatten_mapping(node)
        # What stands later wins, as it does in a mapping; keys that are no scalars are refused.
        last = {(k.tag, k.value): (k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode)}
        others = [(k, v) for k, v in node.value if not isinstance(k, yaml.ScalarNode)]
        node.value = [*last.values(), *others]


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # no key of ours; and its text may be gigabytes
        if key.value in seen:
            line = key.start_mark.line + 1
            problem = f"{key.value!r} stands twice in its section (again in line {line}); keep one"
            raise yaml.constructor.ConstructorError(problem=problem)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _unique_mapping)
