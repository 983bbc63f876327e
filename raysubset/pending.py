"""A round that is being committed in a thread, beside the selection of the next one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from time import perf_counter

from raysubset.learn.checkpoint import CheckpointRef


class Pending:
    """At most one round that is not committed yet, and how long it was waited for."""

    def __init__(self) -> None:
        """Begin with none."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._round: Future[CheckpointRef | None] | None = None
        self._closed, self._committing = False, Lock()
        self._waited_s = 0.0

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._round is not None

    def begin(self, commit: Callable[[], CheckpointRef | None]) -> None:
        """Commit a round from now on."""
        assert self._round is None, "a round is settled before the next is appended"
        self._round = self._thread.submit(commit)

    @contextmanager
    def open_folder(self) -> Generator[bool]:
        """Tell whether the folder is still this ledger's; it stays so until the context ends."""
        with self._committing:
            yield not self._closed

    @contextmanager
    def settled(self) -> Generator[CheckpointRef | None]:
        """Wait for the round, and give what `commit` gave; its errors are raised here.

        What the context does then is waited for too.
        """
        assert self._round is not None
        start = perf_counter()
        found, self._round = self._round.result(), None
        yield found
        self._waited_s += perf_counter() - start

    def waited(self) -> float:
        """Return the seconds that were waited since this was last asked."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def close(self) -> None:
        """Let a commit that goes on end; one that still waits for its checkpoint will not begin."""
        with self._committing:
            self._closed = True
        self._thread.shutdown(wait=False)
