"""Writes docs/reference.md: public names, commands and options, from their own docstrings.

    python docs/reference.py            # write it again
    python docs/reference.py --check    # exit code 1 if it is not what this would write

The text depends on the code alone: not on the Python version, nor on the terminal.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's package, wherever it is called from

from docs.docstrings import escaped, fenced, plain, signature, told  # noqa: E402

PAGE = ROOT / "docs" / "reference.md"
HEAD = """# Reference

Written by `python docs/reference.py` from the docstrings; do not edit it by hand.

- [Commands](#commands)
- [Options of an experiment](#options-of-an-experiment)
- [Python](#python)
"""
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def main(words: list[str]) -> int:
    """Write the page, or say whether it is what would be written."""
    text = page()
    if "--check" in words:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, *commands(), *options(), *names()]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def commands() -> Iterator[str]:
    """Give a section for each command: what it does, its own arguments and options."""
    from raysubset.cli import app

    yield "## Commands"
    yield (
        "`run`, `compare`, `frontier`, `select` and `doctor` also take every "
        "[option of an experiment](#options-of-an-experiment) as `--section.option VALUE`, and a "
        "YAML file of them as first argument.\nShort forms: `--data` (digits, cifar10 or a path), "
        "`--strategy`, `--fraction`, `--epochs`, `--seed`, `--run-dir`.\n"
        "Exit codes: 0 done, 2 bad input, 75 terminated, 130 interrupted."
    )
    for name in sorted(n for n in app if not n.startswith("-")):
        command = app[name]
        yield f"### raysubset {name}"
        yield inspect.cleandoc(command.default_command.__doc__ or "")
        rows = [_argument(a) for a in command.assemble_argument_collection() if _is_own(a)]
        yield _table(("argument", "kind", "default", "meaning"), rows)


def options() -> Iterator[str]:
    """Give a table for each section of an experiment."""
    from raysubset.experiment import options as all_options

    yield "## Options of an experiment"
    yield (
        "The same names in YAML (`training: {epochs: 30}`), on the command line "
        "(`--training.epochs 30`) and in `rs.Experiment.of({...})`. Unknown names are refused."
    )
    sections: dict[str, list[tuple[str, ...]]] = {}
    for name, field in all_options().items():
        section = name.rpartition(".")[0]
        row = (
            f"`{name}`",
            _kind_of_field(field),
            _default(field.default),
            _line(field.description),
        )
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        yield f"### {section or 'the experiment itself'}"
        yield _table(("option", "kind", "default", "meaning"), rows)


def names() -> Iterator[str]:
    """Give a section for each public name of the package."""
    import raysubset

    yield "## Python"
    yield "`import raysubset as rs`; every name is loaded when it is first used."
    for name in raysubset.__all__:
        value = getattr(raysubset, name)
        yield f"### rs.{name}"
        yield fenced(f"{signature(name, value)}\n")
        yield from told(value)
        if inspect.isclass(value):
            for method, about in _methods(value):
                yield f"#### rs.{name}.{method}"
                yield from about


def _methods(kind: type) -> Iterator[tuple[str, list[str]]]:
    """Give (name, its text) of what a class itself defines for others, in order."""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = getattr(member, "__func__", member)  # of class and static methods
        if isinstance(member, property) or hasattr(member, "func"):
            found = member.fget if isinstance(member, property) else member.func
            kind_of = plain(found.__annotations__.get("return", "Any"))
            yield name, [fenced(f"{name}: {kind_of}  # property\n"), *told(found)]
        elif inspect.isfunction(function):
            yield name, [fenced(f"{signature(name, function)}\n"), *told(function)]


def _is_own(argument: Any) -> bool:
    """Return whether an argument is the command's, and no option of an experiment."""
    option = argument.name.removeprefix("--")
    return argument.show and "." not in option and option != "seed"


def _argument(argument: Any) -> tuple[str, ...]:
    default = argument.field_info.default
    needed = default is inspect.Parameter.empty
    given = ", ".join(f"`{name}`" for name in argument.names)
    help_ = argument.parameter.help or ""
    return given, _kind(argument.hint), "needed" if needed else _default(default), _line(help_)


def _kind_of_field(field: FieldInfo) -> str:
    return _bounded(_kind(field.annotation), field.metadata)


def _kind(hint: Any) -> str:
    """Return what may be given, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = [more for each in args[1:] for more in getattr(each, "metadata", [each])]
        return _bounded(_kind(args[0]), inner)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in args if each is not type(None))
    if origin in (tuple, list):
        return f"list of {_kind(args[0])}"
    return _NAMES.get(hint, plain(hint))


def _bounded(kind: str, metadata: list[Any]) -> str:
    bounds = [
        f"{words} {getattr(each, name):,}"
        for each in metadata
        for name, words in _BOUNDS.items()
        if getattr(each, name, None) is not None
    ]
    return " ".join([kind, ", ".join(bounds)]) if bounds else kind


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{value}`"


def _line(text: str | None) -> str:
    return escaped(" ".join((text or "").split())).replace("|", "\\|")


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
