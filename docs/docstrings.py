"""Docstrings and signatures as Markdown, the same on every Python version."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Example|Examples):$")
_LISTS = ("Args", "Attributes", "Raises")
_NAME = r"\*{0,2}[\w.]+"
_ITEM = re.compile(rf"^({_NAME}(?:, {_NAME})*)(?: \([^)]*\))?: +(.*)$")


def told(value: object) -> Iterator[str]:
    """Give a docstring as Markdown: prose, lists for its sections, examples as they are."""
    text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    if not text or text.startswith(f"{getattr(value, '__name__', '')}("):
        return  # what dataclasses make of a missing one
    for heading, body in _sections(text):
        if heading:
            yield f"{heading}:"
        yield from _items(body) if heading in _LISTS else _paragraphs(body)


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give (heading or "", lines) of a docstring in Google's style."""
    heading, lines = "", list[str]()
    for line in text.splitlines():
        found = _SECTION.match(line)
        one = re.match(r"^(Raises|Returns|Yields): +(.*)$", line)
        if found or one:
            if any(lines):
                yield heading, _dedented(lines)
            heading, lines = (found or one)[1], [] if found else [one[2]]  # type: ignore[index]
        elif heading and line and not line.startswith(" ") and lines and not lines[-1]:
            yield heading, _dedented(lines)
            heading, lines = "", [line]
        else:
            lines.append(line)
    if any(lines):
        yield heading, _dedented(lines)


def _dedented(lines: list[str]) -> list[str]:
    return inspect.cleandoc("\n" + "\n".join(lines)).splitlines()


def _items(lines: list[str]) -> Iterator[str]:
    """Give the entries of a section as one list; its prose, where it has no entries, as it is."""
    entries: list[list[str]] = []
    for line in lines:
        if line and (not line.startswith(" ") or not entries):
            entries.append([line])
        elif line:
            entries[-1].append(line.strip())
    yield "\n".join(f"- {_entry(' '.join(entry))}" for entry in entries)


def _entry(text: str) -> str:
    found = _ITEM.match(text)
    if not found:
        return escaped(text)
    names = ", ".join(f"`{name}`" for name in found[1].split(", "))
    return f"{names}: {escaped(found[2])}"


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Give prose as paragraphs, and what is indented in it, or a session, as fenced text."""
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        if block.startswith((" ", ">>>")):
            yield fenced(inspect.cleandoc("\n" + block) + "\n")
        elif block:
            yield escaped(block)


def signature(name: str, value: Any) -> str:
    """Return "name(parameter: kind = default) -> kind"; a parameter a line where it is long."""
    function = value
    if dataclasses.is_dataclass(value):
        fields = [field for field in dataclasses.fields(value) if field.init]
        star = ["*"] if any(field.kw_only for field in fields) else []
        return _wrapped(name, star + [_field(field) for field in fields], "")
    if inspect.isclass(value):
        if issubclass(value, Exception) or hasattr(value, "model_fields"):
            return name
        function = vars(value).get("__init__")
        if function is None:
            return name
    result = function.__annotations__.get("return")
    result = "" if inspect.isclass(value) or result is None else f" -> {plain(result)}"
    return _wrapped(name, _parameters(function), result)


def _parameters(function: Callable[..., Any]) -> list[str]:
    parts: list[str] = []
    star = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        marks = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
        star |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        text = marks.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {plain(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {told_value(parameter.default)}"
        parts.append(text)
    return parts


def _field(field: dataclasses.Field[Any]) -> str:
    text = f"{field.name}: {plain(field.type)}"
    if field.default is not dataclasses.MISSING:
        return f"{text} = {told_value(field.default)}"
    return text if field.default_factory is dataclasses.MISSING else f"{text} = ..."


def _wrapped(name: str, parts: list[str], result: str) -> str:
    one = f"{name}({', '.join(parts)}){result}"
    if len(one) <= 90:
        return one
    return f"{name}(\n" + "".join(f"    {each},\n" for each in parts) + f"){result}"


def plain(annotation: object) -> str:
    """Return an annotation as it stands in the source."""
    if isinstance(annotation, str):
        return annotation.strip("'\"")
    return getattr(annotation, "__name__", None) or str(annotation)


def told_value(value: object) -> str:
    """Return a default as a person would write it: sets sorted, functions by their names."""
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    if inspect.isroutine(value):
        return value.__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(_own_values(value))})"
    text = repr(value)
    return "..." if " at 0x" in text else text


def escaped(text: str) -> str:
    """Return prose in which < opens no tag."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else _marked(piece) for piece in pieces)


def _own_values(value: Any) -> list[str]:
    """Return "field=value" of what a value was made with beside its defaults."""
    own = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [f"{field.name}={told_value(given)}" for field, given in own if given != field.default]


def _marked(text: str) -> str:
    return text.replace("<", "\\<").replace("*", "\\*")


def fenced(text: str) -> str:
    """Return text as a fenced block; one that is a session says so, and is run."""
    return f"```{'pycon' if text.startswith('>>>') else 'text'}\n{text}```"
