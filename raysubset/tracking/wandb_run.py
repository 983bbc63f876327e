"""A run in Weights & Biases: one W&B run for a run folder, however often it is resumed."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from raysubset.tracking.memory import Memory
from raysubset.tracking.tracker import Ending, Facts, Told, outcome

EXIT_CODE = {"finished": 0, "failed": 1, "stopped": 255}
_TIMEOUT_S = 8.0


@cache
def _leave_in_time() -> None:
    """At the process's exit, wait for W&B no longer than this; its own hook waits for ever.

    Hooks run last one first, so this comes after W&B has set its own, which a teardown takes
    back. The thread stands ready because none can be started at exit (Python 3.12).
    """
    leaving = threading.Event()

    def leave() -> None:
        leaving.wait()
        import_module("wandb").teardown()

    thread = threading.Thread(target=leave, name="W&B exit", daemon=True)
    thread.start()

    def at_exit() -> None:
        leaving.set()
        thread.join(_TIMEOUT_S)

    atexit.register(at_exit)


class WandbRun:
    """Tells W&B by a run object of its own; WANDB_MODE and the other variables are W&B's."""

    name = "W&B"

    def __init__(self, project: str, facts: Facts, memory: Memory) -> None:
        """Hold where to report; nothing is imported or called yet."""
        self._where = {"project": project}
        self._facts, self._memory = facts, memory
        self._kept: dict[str, Any] = {}
        self._run: Any = None

    def begin(self) -> int:
        """Start the folder's run or go on with it: its id is ours, and written down before."""
        if self._run is None:
            self._kept = self._memory.of("wandb", **self._where)
            self._keep(id=self._memory.id, rounds=self._kept.get("rounds", 0), finished=False)
            try:
                self._run = self._init()
            finally:
                _leave_in_time()
            self._run.define_metric("*", step_metric="visits")
        return int(self._kept["rounds"])

    def round_done(self, told: Told) -> None:
        """Log a round's figures."""
        for visits, named in told.points:
            self._run.log({**named, "visits": visits})
        self._keep(rounds=told.number + 1)

    def caught_up(self) -> None:
        """Do nothing: W&B sends in a process of its own."""

    def finished(self, result: Mapping[str, Any], visits: int, time_s: float) -> None:
        """Put the outcome into the summary."""
        self._run.summary.update(outcome(result))

    def close(self, ending: Ending) -> None:
        """Say how the run ended."""
        self._run.finish(exit_code=EXIT_CODE[ending])
        self._keep(finished=ending == "finished")

    def _init(self) -> Any:
        # Its reports about itself are flushed at exit, and a silent server holds that up.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = import_module("wandb")
        entity, _, project = self._where["project"].rpartition("/")
        settings = wandb.Settings(
            console="off",  # the run's output belongs to its terminal
            silent=True,
            save_code=False,
            init_timeout=_TIMEOUT_S,
            finish_timeout=_TIMEOUT_S,
        )
        return wandb.init(
            project=project,
            entity=entity or None,
            id=self._memory.id,
            resume="allow",
            name=self._facts.name,
            group=self._facts.group,
            tags=[f"{key}:{value}"[:64] for key, value in self._facts.tags.items()],
            config=dict(self._facts.params),
            allow_val_change=True,
            dir=str(self._facts.folder),
            reinit="create_new",
            settings=settings,
        )

    def _keep(self, **values: Any) -> None:
        self._kept = {**self._where, **self._kept, **values}
        self._memory.keep("wandb", self._kept)
