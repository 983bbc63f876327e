"""The cases of `jobs.bench`, one file each."""

from __future__ import annotations

from jobs.benches.exact import exact
from jobs.benches.greedy import greedy
from jobs.benches.handover import handover
from jobs.benches.measuring import Case
from jobs.benches.overlap import overlap
from jobs.benches.peers import peers
from jobs.benches.rounds import rounds
from jobs.benches.run import run
from jobs.benches.scale import scale
from jobs.benches.scoring import scoring
from jobs.benches.training import training

CASES: dict[str, Case] = {
    "scoring": scoring,
    "greedy": greedy,
    "exact": exact,
    "training": training,
    "handover": handover,
    "peers": peers,
    "rounds": rounds,
    "scale": scale,
    "run": run,
    "overlap": overlap,
}
