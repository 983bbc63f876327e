"""Greedy: exact picks against blocks."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from jobs.benches.measuring import LEAST, Asked, Measured, device_of
from raysubset.learn.local import local_ports
from raysubset.preparation import Prepared
from raysubset.schedule import Phase


def greedy(asked: Asked) -> Measured:
    """Exact picks against blocks, on the factors of a model that was trained a little."""
    found: dict[str, float] = {}
    told = ""
    for name, picks in (("exact", "exact"), ("blocks", "blocks(10)")):
        run = asked.prepared(selection__glister__picks=picks, selection__strategy="glister")
        taken: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            device = device_of(run).type
            pool, trainer = local_ports(
                run.problem, run.chooser, Path(folder), world=1, device=device, progress=_silent
            )
            first = _phase(run, "random", 0)
            weights = trainer.fit(pool.select(first, None), first, None).weights
            for _ in range(max(LEAST, asked.repeats) + 1):
                facts = pool.select(_phase(run, "glister", 1), weights).facts
                taken.append(facts["seconds_greedy"])
            trainer.close()
        found[name] = statistics.median(taken[1:])
        told = f"{first.budget} of {len(run.problem.parts.pool.id_N)}, blocks(10), {device}"
    return Measured(
        seconds=found, ratios={"blocks / exact": found["blocks"] / found["exact"]}, of=told
    )


def _phase(run: Prepared, strategy: str, number: int) -> Phase:
    first = run.phases[0]
    return Phase(
        round=number,
        strategy=strategy,
        budget=first.budget,
        epochs=range(number, number + 1),
        visits_before=first.budget * number,
        total_visits=first.budget * 2,
    )


def _silent(*_: object) -> None:
    """Show nothing."""
