"""How a process is stopped: the exit codes, and SIGTERM as an error that ends it in good order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator

from raysubset.errors import Stopped

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 75


class Terminated(Stopped):
    """SIGTERM: a scheduler wants its machine back; the run can be resumed."""

    exit_code = EXIT_TERMINATED


@contextlib.contextmanager
def terminable(told: str = "terminated.") -> Generator[None]:
    """Own SIGTERM: raise `Terminated` with these words where the main thread is."""

    def terminate(*_: object) -> None:
        raise Terminated(told)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
