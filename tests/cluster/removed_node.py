"""A cluster whose only node with CPUs is removed in the middle of a run; prints what is left.

node 0   the driver's; no CPU for work
first    3 CPUs: two training ranks and the scorer; killed while they train
second   3 CPUs; joins once they stand
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

WAIT_S = 240
OPTIONS: dict[str, Any] = {
    "model__name": "tests.cluster.marked:marked",
    "selection__batch_size": 16,
    "resources__start_timeout_s": WAIT_S,
    "resources__placement": "actors",
    "resources__scorers": 1,
    "resources__max_failures": 9,
    "resources__keep_checkpoints": 9,
}
# A raylet that is gone refuses at once, so it is missed in 3 s; one that is slow has 10 s a time.
SYSTEM = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 0}


def play(root: Path, cluster: Any) -> dict[str, Any]:
    """Run, and remove the first node as soon as training is heard of."""
    from raysubset.cluster.ray_run import hands, run_on
    from tests.cluster.many_nodes import SMALL, facts, nodes_up
    from tests.small_runs import Watcher, prepared

    ready, slow = prepared(**OPTIONS), root / "marks/rank0-training-slow"
    slow.write_text("0.5")  # else a round is over before its progress is asked for
    first = cluster.add_node(num_cpus=3, wait=False, **SMALL)
    nodes_up(2)

    def see(_: int, name: str) -> None:
        if name == "training" and slow.exists():
            slow.unlink()
            cluster.remove_node(first, allow_graceful=False)

    with hands(ready.experiment, ready.problem, root) as both:
        cluster.add_node(num_cpus=3, wait=False, **SMALL)
        nodes_up(3)
        run_on(ready, both, root / "run", watch=Watcher(see))
        nodes_up(2)
    return {"removed": not slow.exists(), **facts(root / "run")}


def main(root: Path) -> None:
    """Start the head, play, print, end everything."""
    import numpy as np
    import ray
    from ray.cluster_utils import Cluster

    from tests.cluster.many_nodes import SMALL, patiently

    (root / "marks").mkdir()
    os.environ |= {
        "RAYSUBSET_TEST_MARKS": str(root / "marks"),
        "RAYSUBSET_TEST_DRIVER": str(os.getpid()),
    }
    sockets = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    head: dict[str, Any] = {
        "num_cpus": 0,
        "temp_dir": sockets,
        "include_dashboard": False,
        "_system_config": SYSTEM,
        **SMALL,
    }
    cluster: Any = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            print("SEEN " + json.dumps(play(root, cluster), default=np.ndarray.tolist))
        finally:
            ray.shutdown()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
