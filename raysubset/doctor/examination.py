"""An examination: the checks in their order, over what was gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raysubset.doctor.doors import check_auth, check_dashboard, check_token_file
from raysubset.doctor.facts import ClusterFacts, NodeFacts, node_facts
from raysubset.doctor.finding import Finding, failed, skipped
from raysubset.doctor.fitting import Plan, check_disk, check_memory
from raysubset.doctor.look import look
from raysubset.doctor.reading import Read, read
from raysubset.doctor.rehearsing import rehearse_run
from raysubset.doctor.size import size_of
from raysubset.doctor.software import check_holes, check_versions
from raysubset.doctor.spilling import check_spill_disk
from raysubset.doctor.storing import DriverProbe, check_storage
from raysubset.doctor.time_needed import check_time, hands_of, time_needed
from raysubset.doctor.within import Late, within
from raysubset.errors import RaySubsetError
from raysubset.experiment import Experiment
from raysubset.preparation import Prepared

HERE = "this machine"
DOORS = ("authentication", "token file", "dashboard")
ESTIMATES = ("memory", "disk", "time")
LEFT_OUT = "starting Ray (10-30 s), hand-over and waiting for other ranks come on top"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person asked.

    Attributes:
        experiment: resolved.
        price: of an hour of everything that the run holds, or None.
        patience_s: how long reading the data, and how long rehearsing, may take.
    """

    experiment: Experiment
    price: float | None
    patience_s: float


def this_machine() -> NodeFacts:
    """Return the facts of the driver's own machine."""
    return node_facts(HERE, look([], None, None))


def check_nodes(
    here: NodeFacts, cluster: ClusterFacts | None, driver: DriverProbe
) -> list[Finding]:
    """Return what is found about software, doors and storage."""
    if cluster is None:
        return [
            check_versions([here], {}),
            check_holes([here]),
            *skipped("there is no cluster, and a private Ray here opens nothing", *DOORS),
            check_storage(driver, []),
            check_spill_disk([here]),
        ]
    driver_too = [here, *cluster.nodes]
    return [
        check_versions(driver_too, cluster.silent),
        check_holes(driver_too),
        check_auth(cluster),
        check_token_file(cluster.nodes),
        check_dashboard(cluster),
        check_storage(driver, cluster.nodes),
        check_spill_disk(cluster.nodes),
    ]


def check_experiment(
    asked: Asked, plan: Plan, nodes: Sequence[NodeFacts], driver: DriverProbe, *, alone: bool
) -> list[Finding]:
    """Return what is found about the experiment: its data, model, memory, disk and time.

    Args:
        asked: the experiment.
        plan: where it would go.
        nodes: where its processes would be.
        driver: where its run folder would be.
        alone: on this machine, whose GPU may then be rehearsed on.
    """
    found: Read = read(asked.experiment, asked.patience_s)
    if found.prepared is None:
        return [*found.findings, *skipped("the run could not be prepared", *ESTIMATES)]
    prepared = found.prepared
    return [*found.findings, *_estimates(asked, prepared, plan, nodes, driver, alone)]


def _estimates(
    asked: Asked,
    prepared: Prepared,
    plan: Plan,
    nodes: Sequence[NodeFacts],
    driver: DriverProbe,
    alone: bool,
) -> list[Finding]:
    def sizes() -> list[Finding]:
        size = size_of(prepared, plan.workers)
        keep = asked.experiment.resources.keep_checkpoints
        return [check_memory(size, plan, nodes), check_disk(size, keep, driver.free, driver.disk)]

    timed = _or_skipped(("time",), asked.patience_s, lambda: [_time(asked, prepared, plan, alone)])
    return [*_or_skipped(("memory", "disk"), asked.patience_s, sizes), *timed]


def _time(asked: Asked, prepared: Prepared, plan: Plan, alone: bool) -> Finding:
    on_gpu = alone and plan.device == "cuda" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    paces = rehearse_run(prepared, plan.workers, device)
    cores, threads = os.cpu_count() or 1, asked.experiment.resources.threads_per_rank
    hands = hands_of(plan, cores if alone else plan.workers * threads, threads)
    told = f"an estimate, measured on this machine's {'GPU' if on_gpu else 'CPU'}"
    if plan.device == "cuda" and not on_gpu:
        told += " (nothing was started on a GPU of the cluster, which is many times faster)"
    needed = time_needed(prepared, paces, hands)
    return check_time(needed, paces, f"{told}; {LEFT_OUT}", asked.price)


def _or_skipped(
    names: tuple[str, ...], limit_s: float, call: Callable[[], list[Finding]]
) -> list[Finding]:
    """Return an estimate's findings, or why there is none: it decides about no run.

    But for memory that does not suffice for the few batches of a rehearsal: a run would end so too.
    """
    try:
        return within(limit_s, call, f"estimating {' and '.join(names)}")
    except (Late, RaySubsetError) as error:
        return list(skipped(str(error), *names))
    except (MemoryError, torch.OutOfMemoryError) as error:
        told = f"a few batches of it do not fit this machine: {_first_line(error)}"
        return [failed(name, told, _SMALLER) for name in names]
    except Exception as error:  # a person's model runs in there
        told = f"its rehearsal failed: {type(error).__name__}: {_first_line(error)}"
        return list(skipped(told, *names))


_SMALLER = "lower --training.batch_size or --selection.batch_size, or take a larger machine"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
