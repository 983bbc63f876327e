"""How a process is stopped: the exit codes, and SIGTERM as an error that ends it in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator

from raysubset.errors import Stopped

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 75


class Terminated(Stopped):
    """SIGTERM: a scheduler wants its machine back; the run can be resumed."""

    exit_code = EXIT_TERMINATED


@contextlib.contextmanager
def terminable(told: str = "terminated.") -> Generator[None]:
    """Own SIGTERM: raise `Terminated` with these words where the main thread is.

    In another thread, which may own no signal, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated(told)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
