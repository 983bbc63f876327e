"""How a process is stopped: the exit codes, and SIGTERM and Ctrl-C as errors that end it.

The first of them ends it in good order, which takes up to half a minute: what is being written is
finished, and what was started is ended. A second one must not cut that off; the third ends the
process at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator

from raysubset.errors import Stopped

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 75
AT_ONCE = 3
"""The signal of a stop that ends it at once."""
HINT = "stopping in good order; once more ends it at once, with what is not on the disk yet lost"


class Terminated(Stopped):
    """SIGTERM: a scheduler wants its machine back; the run can be resumed."""

    exit_code = EXIT_TERMINATED


@contextlib.contextmanager
def terminable(told: str = "terminated.") -> Generator[None]:
    """Own SIGTERM and Ctrl-C: raise `Terminated` with these words, or KeyboardInterrupt, once.

    A Ctrl-C that this process was started to ignore (`nohup`, a shell's `&`) stays ignored; in
    another thread than the main one, which may own no signal, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = 0

    def hear(number: int, _: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            raise Terminated(told) if number == signal.SIGTERM else KeyboardInterrupt
        if heard >= AT_ONCE:
            _end_at_once(EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED)
        os.write(2, f"{HINT}\n".encode())  # a print may be what the signal interrupted

    owned = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        owned.remove(signal.SIGINT)
    before = {number: signal.signal(number, hear) for number in owned}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(code: int) -> None:
    """End as a kill would: what is left over, the next run removes."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a line that is being printed
        sys.stdout.flush()
    os._exit(code)
