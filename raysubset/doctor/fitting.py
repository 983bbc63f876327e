"""Fitting: whether a run's bytes have a place: object store, memory, GPU, disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from raysubset.doctor.facts import NodeFacts
from raysubset.doctor.finding import Finding, failed, ok, warning
from raysubset.doctor.size import Size, largest_gpu_share, processes_bytes, smallest

FULL_FROM = 0.7
"""From this share on, what is there is told to be nearly full."""

SPILLS = ("object store",)
"""What goes to disk where it is full: slower, and no failure."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where a run would go.

    Attributes:
        workers: training ranks.
        scorers: scoring actors; 0 where the ranks score.
        device: "cpu" or "cuda".
    """

    workers: int
    scorers: int
    device: str


def check_memory(size: Size, plan: Plan, nodes: Sequence[NodeFacts]) -> Finding:
    """Hold a run's bytes against the smallest object store, all memory and the smallest GPU."""
    places = _places(size, plan, nodes)
    told = [
        f"{what} about {_size(need)} of {'unknown' if there is None else _size(there)} {place}"
        for place, what, need, there in places
    ]
    found = f"{'; '.join(told)} (factors {_size(size.factors)} on one device)"
    facts = {**asdict(size), "needs": {p: {"bytes": n, "of": t} for p, _, n, t in places}}
    shares = {place: need / there for place, _, need, there in places if there is not None}
    full = [place for place, share in shares.items() if share >= FULL_FROM]
    if not full:
        return ok("memory", found, **facts)
    small = [place for place in full if shares[place] > 1 and place not in SPILLS]
    worst = (small or full)[0]
    if small:
        return failed("memory", f"{found}: {worst} is too small", _REMEDIES[worst], **facts)
    full_told = f"{found}: {worst} is nearly full, or spills to disk"
    return warning("memory", full_told, _REMEDIES[worst], **facts)


def _places(
    size: Size, plan: Plan, nodes: Sequence[NodeFacts]
) -> list[tuple[str, str, int, int | None]]:
    """Return (place, what lies there, bytes, bytes that are there) of a run."""
    memory = sum(node.memory_bytes for node in nodes)
    store = smallest([node.object_store_bytes for node in nodes])
    own = processes_bytes(size, plan.workers, plan.scorers, plan.device)
    places: list[tuple[str, str, int, int | None]]
    places = [("memory", "processes", own, memory or None)]
    if store is not None:
        # the driver puts every row there in blocks, and a round's factors pass through
        places.append(("object store", "data and factors", size.data + size.factors, store))
    gpu = smallest([gpu.total_bytes for node in nodes for gpu in node.gpus])
    if plan.device == "cuda":
        share = largest_gpu_share(size, plan.scorers)
        places.append(("GPU memory", "one rank or scorer", share, gpu))
    return places


def check_disk(size: Size, keep: int, free: int | None, shown: str) -> Finding:
    """Hold what a run folder grows to against the free space of its disk."""
    need = f"about {_size(size.disk)}, {keep + 1} checkpoints of {_size(size.checkpoint)} included"
    facts = {"bytes": size.disk, "checkpoint_bytes": size.checkpoint, "free_bytes": free}
    if free is None:
        return ok("disk", f"{need}; how much is free at {shown} is not known", **facts)
    found = f"{need}, and {_size(free)} are free at {shown}"
    if size.disk < FULL_FROM * free:
        return ok("disk", found, **facts)
    judge = failed if size.disk > free else warning
    return judge("disk", found, _MAKE_ROOM, **facts)


_MAKE_ROOM = "make room, choose another --run-dir, or lower --resources.keep_checkpoints"
_REMEDIES = {
    "memory": "lower --resources.workers or --resources.scorers, or take larger machines",
    "object store": "start Ray with a larger --object-store-memory, or take larger machines",
    "GPU memory": "lower --training.batch_size or --selection.batch_size, choose --selection."
    "candidates 4 for fewer factors, or take larger GPUs",
}


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
