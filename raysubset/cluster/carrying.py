"""Kept epochs on their way between the driver and ranks that do not see its folder.

Both ways lead through the mailbox, and the driver looks there while an order is open. Every wait
ends: the epoch is written, the order is over, or the deadline has passed. It is an insurance, so
what fails costs epochs and never the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from raysubset.cluster.blocks import CARRY_S
from raysubset.errors import RunFolderError, Stopped
from raysubset.learn.checkpoint import CheckpointRef
from raysubset.learn.partial import Finished, Open, Partial, partial_of
from raysubset.learn.sent_partial import Given, SentPartial

logger = logging.getLogger(__name__)
WAIT_S = 5.0
Get = Callable[[Any], Any]
"""Waits for a call's answer, as long as the mailbox may take to come back."""


class Carrier:
    """A rank's part, for one order."""

    def __init__(self, mailbox: Any, get: Get, number: int, attempt: str, rank: int) -> None:
        """Carry through a mailbox, while the order of this number is open."""
        self.mailbox, self.get, self.number = mailbox, get, number
        self.attempt, self.rank = attempt, rank
        self.checkpoint: CheckpointRef | None = None  # of what `kept` gave, with its bytes

    def kept(self, begun: Open | None) -> Partial | None:
        """Return what the driver says is kept of the order's round; None: nothing, or no answer.

        Raises:
            Stopped: the order is not to be done any more.
        """
        end = time.monotonic() + CARRY_S
        try:
            while time.monotonic() < end:
                given: Given | None = self.get(
                    self.mailbox.kept.remote(self.number, self.rank, WAIT_S)
                )
                if given is None:
                    continue
                if given.gone:
                    raise Stopped("the driver wants this round no more.")
                if given.partial is not None:
                    self.checkpoint = self.get(given.content[0])
                return given.partial
        except Stopped:
            raise
        except Exception as error:  # an insurance that cannot be had must not end the run
            logger.warning("kept epochs did not come (%s); they are trained again", error)
            return None
        logger.warning("the driver does not tell what is kept of this round; it is trained again")
        return None

    def write(self, open_: Open, before: Partial | None, finished: Finished) -> Partial:
        """Do what `write_partial` does, by the driver's hand; wait until it is done.

        Only one state is on its way: while it is, `Keeper` holds the newest one.

        Raises:
            OSError: the driver could not write it, or did not take it.
        """
        sent = SentPartial.of(open_, before, finished)
        end = time.monotonic() + CARRY_S
        while time.monotonic() < end:
            self.get(self.mailbox.hold.remote(self.number, self.attempt, sent))
            said, why = "waits", ""
            while said == "waits" and time.monotonic() < end:
                waited = self.mailbox.was_written.remote(self.number, sent.state, WAIT_S)
                said, why = self.get(waited)
            if said in ("written", "over"):
                return sent.partial(open_.folder)
            if said == "failed":
                raise OSError(why)
        raise OSError(f"the driver did not take them within {CARRY_S:g} s")


def written(begun: Open | None, sent: SentPartial) -> str:
    """Write what a rank sent, on the driver's side; return why that failed, "" if it did not."""
    if begun is None:
        return "no round is open"
    try:
        sent.write(begun)
    except OSError as error:  # the rank tells of it: it is what keeps no more of this round
        return f"{error.strerror or error} ({begun.folder})"
    return ""


def given_of(begun: Open | None, put: Callable[[Any], Any]) -> Given:
    """Return what is kept of a round, its bytes put once for all ranks that ask."""
    partial = partial_of(begun)
    try:
        if partial is not None:
            return Given(partial=partial, content=[put(partial.checkpoint.with_content())])
    except RunFolderError as error:
        logger.warning("kept epochs cannot be read: %s", error)
    return Given()
