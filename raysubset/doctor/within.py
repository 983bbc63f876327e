"""A wait that ends: a call that may hang runs beside, and is left behind when it is late."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

_T = TypeVar("_T")


class Late(Exception):
    """A call that did not come back in time."""


def within(seconds: float, call: Callable[[], _T], what: str) -> _T:
    """Return what the call returns, or raise what it raises.

    A daemon thread: a mount that hangs cannot be interrupted, and must not keep the process.

    Raises:
        Late: it did not come back in time; it is left to itself.
    """
    ended: list[Callable[[], _T]] = []

    def run() -> None:
        try:
            value = call()
        except BaseException as error:  # handed over whole, to be raised where it is waited for
            failure = error
            ended.append(lambda: _raise(failure))
        else:
            ended.append(lambda: value)

    same = contextvars.copy_context().run  # who listens to a long fetch does so from there too
    thread = threading.Thread(target=same, args=(run,), name=f"doctor-{what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise Late(f"{what} did not come back within {seconds:g} s")
    return ended[0]()


def _raise(error: BaseException) -> NoReturn:
    raise error
