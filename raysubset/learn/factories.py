"""A person's own `module:factory`: found from the working directory, imported, called.

What fails in their code is told as an error of the option that named it. Runs code, by design.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from raysubset.errors import RaySubsetError

_FACTORY = re.compile(r"(?!hf:)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Named:
    """What `module:factory` names, and how its errors are told.

        named = Named.of("mynet:build", option="model.name", error=ModelError)
        with named.importable():
            model = named.called(named.imported(), {"num_classes": 10})

    Attributes:
        module: dotted name of the module.
        attribute: what of it is meant.
        option: the option that names it.
        error: what is raised.
    """

    module: str
    attribute: str
    option: str
    error: type[RaySubsetError]

    @classmethod
    def of(
        cls, name: str, *, option: str, error: type[RaySubsetError], example: str = "my:build"
    ) -> Named:
        """Return what a text names.

        Raises:
            RaySubsetError: of type `error`: no module, or no attribute.
        """
        module, _, attribute = name.partition(":")
        if not module or not attribute:
            raise error(f"{option}={name!r} lacks a part; write module:factory, as in {example}")
        return cls(module=module, attribute=attribute, option=option, error=error)

    def __str__(self) -> str:
        return f"{self.option}={self.module}:{self.attribute}"

    @contextmanager
    def importable(self) -> Generator[None]:
        """Put the working directory first on the import path, as `python -m` does, for a while."""
        # not for ever: a folder called `datasets` here would shadow a package someone imports later
        folder = os.getcwd()
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            if folder in sys.path:
                sys.path.remove(folder)

    def imported(self) -> object:
        """Return what the module has under this name.

        Raises:
            RaySubsetError: of type `error`: the import fails, or there is nothing of this name.
        """
        try:
            module = importlib.import_module(self.module)
        except (Exception, SystemExit) as error:  # a person's module may fail in any way
            raise self.error(
                f"{self}: importing {self.module!r} failed with {cause(error)}; it must be "
                f"installed or stand in the working directory {os.getcwd()}"
            ) from error
        public = [name for name in vars(module) if not name.startswith("_")]
        found = getattr(module, self.attribute, None)
        if found is None:
            raise self.error(
                f"{self}: module {self.module!r} has no {self.attribute!r}"
                f"{did_you_mean(self.attribute, public)}; it has {shorten(', '.join(public))}"
            )
        return found

    def called(self, factory: Callable[..., object], offered: Mapping[str, object]) -> object:
        """Return factory(**offered), with those of the offered keywords that it accepts.

        Raises:
            RaySubsetError: of type `error`: the factory fails, or needs what is not offered.
        """
        chosen: dict[str, object] = {}
        try:
            chosen = _accepted(factory, offered)
            return factory(**chosen)
        except (Exception, SystemExit) as error:  # a person's factory may fail in any way
            call = ", ".join(f"{key}={value}" for key, value in chosen.items())
            may = f"it may take {' and '.join(offered)}, " if offered else ""
            raise self.error(
                f"{self}: the factory, called with ({call}), failed with {cause(error)}; "
                f"{may}everything else needs a default"
            ) from error


def names_a_factory(text: str) -> bool:
    """Return whether a text is written as module:factory; hf:NAME is a dataset on the hub."""
    return _FACTORY.fullmatch(text) is not None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known word, or "" when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def cause(error: BaseException) -> str:
    """Return what went wrong in a person's code: its type and its message."""
    return f"{type(error).__name__}: {error}"


def shorten(text: str, length: int = 200) -> str:
    """Return a text of at most this length, its end cut off."""
    return text if len(text) <= length else text[: length - 3] + "..."


def _accepted(factory: Callable[..., object], offered: Mapping[str, object]) -> dict[str, object]:
    """Return the offered keywords that the factory names; **kwargs gets num_classes alone.

    torchvision's and timm's factories hand **kwargs on to a class that knows no in_shape.
    """
    parameters = inspect.signature(factory).parameters.values()
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {parameter.name for parameter in parameters if parameter.kind in by_keyword}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        names.add("num_classes")
    return {key: value for key, value in offered.items() if key in names}
