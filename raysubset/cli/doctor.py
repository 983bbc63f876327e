"""The command that looks before a person pays: doctor."""

from __future__ import annotations

import math
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from raysubset.cli.app import Ended, app
from raysubset.cli.looking_on import show
from raysubset.cli.options import File, Options, RunDir, resolve_over
from raysubset.errors import ConfigError
from raysubset.redaction import redacted

if TYPE_CHECKING:
    from raysubset.doctor.examination import Asked
    from raysubset.doctor.finding import Diagnosis, Finding
    from raysubset.doctor.storing import DriverProbe

PATIENCE_S = 60.0


@app.command
def doctor(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    address: Annotated[
        str | None,
        Parameter(help="The cluster: HOST:PORT of its GCS, or auto; default: RAY_ADDRESS."),
    ] = None,
    run_dir: RunDir = None,
    price_per_hour: Annotated[
        float | None, Parameter(help="What an hour of all its machines costs, in your currency.")
    ] = None,
    patience: Annotated[
        float, Parameter(help="Seconds that reading the data, and rehearsing, may take.")
    ] = PATIENCE_S,
    strict: Annotated[bool, Parameter(negative="", help="A warning fails too.")] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="One JSON document, and nothing else.")
    ] = False,
) -> Ended:
    """Look whether a run will work, before paying for it: 0 nothing stops it, 1 something does."""
    from raysubset.doctor.examination import Asked
    from raysubset.doctor.text import lines_of

    if not 0 < patience < threading.TIMEOUT_MAX:
        raise ConfigError(f"--patience={patience:g}: give a number of seconds above 0.")
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise ConfigError(f"--price-per-hour={price_per_hour:g}: give a price from 0 on.")
    resolved = resolve_over({}, file, experiment, None)  # whether Ray answers is a finding
    asked = Asked(experiment=resolved, price=price_per_hour, patience_s=patience)
    diagnosis = diagnose(asked, address, run_dir or "runs", strict=strict)
    show(diagnosis.to_json(), partial(lines_of, diagnosis), as_json=as_json)
    return Ended(code=diagnosis.exit_code, value=diagnosis)


def diagnose(asked: Asked, address: str | None, place: str, *, strict: bool) -> Diagnosis:
    """Look at the cluster that is meant, or at this machine alone; leave nothing behind."""
    from raysubset.cluster.examining import NoCluster, asked_address
    from raysubset.doctor.finding import Diagnosis, Finding
    from raysubset.doctor.storing import driver_probe
    from raysubset.storage.addresses import is_uri, without_credentials

    shown = without_credentials(place) if is_uri(place) else place
    meant = asked_address(address)
    with driver_probe(place, shown) as probe:
        try:
            where, found = _look(asked, meant, probe)
        except NoCluster as error:
            told = Finding(
                name="cluster",
                status="failed",
                found=redacted(str(error)),
                remedy="start it, check --address, and with a token export RAY_AUTH_MODE=token",
            )
            _, alone = _look(asked, None, probe)
            where = f"this machine, because {redacted(meant or '')} does not answer"
            found = [told, *alone]
    return Diagnosis(where=where, findings=tuple(found), strict=strict)


def _look(asked: Asked, meant: str | None, probe: DriverProbe) -> tuple[str, list[Finding]]:
    """Return what was looked at, and what was found."""
    from raysubset.cluster.examining import connected, found_here, gather
    from raysubset.cluster.examining_room import check_room
    from raysubset.doctor.examination import check_experiment, check_nodes, this_machine

    here, cluster = this_machine(), None
    with ExitStack() as until_asked:
        if meant is not None:
            until_asked.enter_context(connected(meant))
            cluster = gather(probe)
        gpus = len(here.gpus) if cluster is None else None
        room, plan, experiment = check_room(asked.experiment, gpus)
    asked = replace(asked, experiment=experiment)
    nodes = [here] if cluster is None else list(cluster.nodes)
    found = [*check_nodes(here, cluster, probe), room]
    found += check_experiment(asked, plan, nodes, probe, alone=cluster is None)
    if cluster is not None:
        count = len(cluster.nodes) + len(cluster.silent)
        return f"the cluster at {cluster.address}, {count} node{'s' * (count != 1)}", found
    other = found_here()
    hint = f"; a Ray runs here, and --address {other} looks at it" if other else ""
    return f"this machine alone (no --address, no RAY_ADDRESS{hint})", found
