"""The one long fit(), in a thread of the driver: whether it goes on, why it ended, how it is ended.

In a thread it registers no signal handler, so the driver owns SIGINT and SIGTERM; and nobody but
Ray Train's controller can end it, whose handle comes through the mailbox.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from raysubset.cluster.group import cause_of
from raysubset.errors import CrewLost

logger = logging.getLogger(__name__)


class LongFit:
    """A TorchTrainer.fit() that has begun."""

    def __init__(self, trainer: Any, mailbox: Any) -> None:
        """Begin it.

        Args:
            trainer: from `make_trainer`.
            mailbox: hears from the controller who it is.
        """
        self.error: BaseException | None = None
        self.controller: Any = None
        self._mailbox = mailbox
        self._thread = threading.Thread(target=self._run, args=(trainer,), name="crew", daemon=True)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def refuse_dead(self) -> None:
        """Do nothing while it goes on.

        Raises:
            CrewLost: it ended; names the ranks and the cause.
        """
        if not self.goes_on:
            raise CrewLost(
                f"the training group ended: {cause_of(self.error)}. The rounds so far are kept; "
                "repair the cause and run the same command with --resume."
            ) from self.error

    def wait(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        self._thread.join(max(0.0, seconds))

    def abort(self, within_s: float) -> None:
        """End it by force: a rank hangs, or is still starting. `goes_on` tells whether it ended.

        A controller that does not end its ranks in most of the time is ended, and they with it.
        """
        try:
            if self.controller is None:
                asked = self._mailbox.who_controls.remote()
                self.controller = ray.get(asked, timeout=within_s / 6)
            if self.controller is not None:
                ray.get(self.controller.abort.remote(), timeout=within_s * 2 / 3)
        except RayActorError:
            pass  # the controller's way to end
        except (RayError, GetTimeoutError):
            logger.warning("the training group did not stop in time; Ray ends it")
            if self.controller is not None:
                ray.kill(self.controller)
        self.wait(within_s / 6)

    def _run(self, trainer: Any) -> None:
        try:
            trainer.fit()
        except BaseException as error:  # a thread's error must reach the driver's waits
            self.error = error
