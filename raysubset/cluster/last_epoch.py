"""The weights at the start of a round's last epoch, on their way from rank 0 to the driver.

They go through the mailbox while the epoch is trained, and are sent again until the driver says
that it took them: a mailbox that restarts has lost them, and knows of no one who waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import nn

from raysubset.cluster.blocks import CARRY_S
from raysubset.cluster.carrying import WAIT_S, Get
from raysubset.cluster.orders import Train
from raysubset.errors import CrewLost
from raysubset.learn.weights import pack


class LastEpoch:
    """A rank's part, for one order."""

    def __init__(self, order: Train, model: nn.Module, send: _Send | None) -> None:
        """Plan to send a copy of the model's weights, where the order wants them.

        Args:
            order: its epochs, and whether the driver selects beside the last of them.
            model: what is trained.
            send: how; None on ranks that do not.
        """
        self.order, self.model, self.send = order, model, send
        self._began: float | None = None
        self._sending: Future[None] | None = None

    def done(self, epochs: int) -> None:
        """Send the weights, if the order's last epoch is the only one that is left."""
        if not self.order.ahead or epochs + 1 != len(self.order.work.epochs):
            return
        if self.send is not None:
            thread = ThreadPoolExecutor(1, thread_name_prefix="last-epoch")
            self._sending = thread.submit(self.send, pack(self.model.state_dict()))
            thread.shutdown(wait=False)  # it ends with what it was given
        self._began = time.perf_counter()

    def seconds(self, trained: float) -> float:
        """Return what was trained since, until `trained`; 0 where nobody asked."""
        return 0.0 if self._began is None else trained - self._began

    def wait(self) -> None:
        """Wait until the driver took them: an answer ends the order that they belong to."""
        if self._sending is not None:
            self._sending.result()


_Send = Callable[[np.ndarray], None]


def sender(mailbox: Any, get: Get, number: int, attempt: str) -> _Send:
    """Return what sends the weights of an order, and returns when nobody waits for them any more.

    Of several attempts at an order, the driver takes the weights of the first.
    """

    def send(flat: np.ndarray) -> None:
        end = time.monotonic() + CARRY_S
        while time.monotonic() < end:
            get(mailbox.early.remote(number, attempt, flat))
            said = "waits"
            while said == "waits" and time.monotonic() < end:
                said = get(mailbox.was_taken.remote(number, WAIT_S))
            if said in ("taken", "over"):
                return
        raise CrewLost(
            f"the driver did not take the weights before a last epoch within {CARRY_S:g} s; run "
            "the same command with --resume."
        )

    return send
