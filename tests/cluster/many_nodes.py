"""A cluster of several nodes on this machine, whose GPUs are numbers; prints what it saw as JSON.

    node 0   the driver's; no CPU for work, as the head of cluster.yaml
    node A   1 CPU, 1 GPU; does not see the folder `hidden-from-a`
    node B   1 CPU, 1 GPU; does not see the folder `hidden-from-b`
    node C   2 CPUs, 2 GPUs; joins later

A and B run in mount namespaces of their own, with an empty disk over one folder each. So whichever
node rank 0 lands on, it does not see one of the runs, and rank 1 does not see the other.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

PLACES = "RAYSUBSET_TEST_PLACES"
WAIT_S = 120
SMALL = {"object_store_memory": 80 * 2**20}


def noted(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the marked model, and note which process builds it, where and on which GPU."""
    import ray
    from torch import distributed

    from tests.cluster.marked import marked

    folder = os.environ.get(PLACES)
    if folder and ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        rank = distributed.get_rank() if distributed.is_initialized() else None
        place = {
            "rank": rank,
            "node": ray.get_runtime_context().get_node_id(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
        }
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(place))
    return marked(in_shape, num_classes)


@contextmanager
def node(address: str, *, cpus: int, gpus: int, hidden: Path | None) -> Generator[None]:
    """Start a node, for which a folder is empty."""
    ray_start = [
        str(Path(sys.executable).with_name("ray")), "start", f"--address={address}", "--block",
        f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--disable-usage-stats",
        "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0",
        "--include-log-monitor=false",  # only brings workers' lines to a screen
        f"--object-store-memory={SMALL['object_store_memory']}",
    ]  # fmt: skip
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs tmpfs {hidden} && exec "$@"', "sh"]
    command = ray_start if hidden is None else mount + ray_start
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def patiently(start: Callable[[], Any]) -> Any:
    """Start a head; Ray gives itself 30 s, which a loaded machine exceeds."""
    for _ in range(2):
        try:
            return start()
        except Exception:  # Ray raises a plain one
            logging.warning("the head did not start in time; once more")
    return start()


def nodes_up(count: int) -> None:
    """Wait until this many nodes are alive."""
    import ray

    from tests.cluster.crews import until

    until(lambda: sum(n["Alive"] for n in ray.nodes()) == count, f"{count} nodes")


def refusal(act: Callable[[], object]) -> str:
    """Return the sentence with which room is refused."""
    from raysubset.errors import RoomError

    try:
        act()
    except RoomError as error:
        return str(error)
    return "nothing was refused"


def take(places: Path) -> list[dict[str, Any]]:
    """Return who noted a place since the last time."""
    found = [json.loads(path.read_text()) for path in sorted(places.iterdir())]
    for path in places.iterdir():
        path.unlink()
    return found


def facts(folder: Path) -> dict[str, Any]:
    """Return what a run gave, as JSON can hold it."""
    import hashlib

    from tests.cluster.crews import checkpoints
    from tests.small_runs import Left

    left = Left(folder)
    states = [hashlib.sha256(content).hexdigest() for content in checkpoints(left)]
    return {"ids": left.ids, "gains": left.gains, "states": states, "hidden": left_over(folder)}


def left_over(folder: Path) -> list[str]:
    """Return hidden files that a run left beside its lock."""
    return sorted(p.name for p in folder.iterdir() if p.name in (".driver", ".ray"))


def play(root: Path, address: str, stack: ExitStack) -> dict[str, Any]:
    """Run on A and B, then on A, B and C; return everything that is asserted about it."""
    import ray

    from raysubset.cluster.group import wait_for_room
    from raysubset.cluster.ray_run import hands, run_on
    from raysubset.cluster.room import Room
    from raysubset.cluster.session import find_room
    from raysubset.cluster.versions import refuse_other_versions
    from raysubset.doctor.look import versions
    from raysubset.experiment import ResourceSettings
    from tests.small_runs import Watcher, prepared

    options = {
        "model__name": "tests.cluster.many_nodes:noted",
        "selection__batch_size": 16,
        "resources__start_timeout_s": WAIT_S,
        "resources__keep_checkpoints": 9,
        "resources__max_failures": 9,
    }
    ready, places, marks = prepared(**options), Path(os.environ[PLACES]), root / "marks"
    seen: dict[str, Any] = {"runs": {}}
    stack.enter_context(node(address, cpus=1, gpus=1, hidden=root / "hidden-from-a"))
    nodes_up(2)
    auto = ResourceSettings()
    seen["one_gpu"] = refusal(lambda: find_room(ResourceSettings(workers=2)))
    seen["one_gpu_auto"] = find_room(auto.settled(1)).placement
    missing = Room(placement="crew", device="cuda", workers=2, scorers=0, cpus=2, gpus=2)
    brief = ResourceSettings(start_timeout_s=2)
    seen["missing"] = refusal(lambda: wait_for_room(missing, brief))
    stack.enter_context(node(address, cpus=1, gpus=1, hidden=root / "hidden-from-b"))
    nodes_up(3)
    seen["same"] = refusal(refuse_other_versions)
    seen["other"] = refusal(lambda: refuse_other_versions(versions() | {"torch": "0.9.0"}))

    def kill_rank(rank: int) -> Watcher:
        started: list[str] = []

        def see(_: int, name: str) -> None:
            started.extend([name] * (name == "started"))
            if name == "started" and len(started) == 2:
                (marks / f"rank{rank}-training-kill").write_text("1")

        return Watcher(see)

    with hands(ready.experiment, ready.problem, root) as both:
        seen["crew"] = both.room.placement
        for name, watch in {
            "seen": None,
            "hidden-from-a": kill_rank(0),
            "hidden-from-b": kill_rank(0),
        }.items():
            folder = root / name / "run"
            run_on(ready, both, folder, watch=watch)
            seen["runs"][name] = facts(folder)
        seen["two"] = take(places)
    stack.enter_context(node(address, cpus=2, gpus=2, hidden=None))
    nodes_up(4)
    with hands(ready.experiment, ready.problem, root) as more:
        seen["actors"] = (more.room.placement, more.room.scorers)
        run_on(ready, more, root / "four")
        seen["runs"]["four"] = facts(root / "four")
        seen["four"] = take(places)
    seen["nodes"] = {n["NodeID"]: n["Resources"].get("GPU", 0) for n in ray.nodes() if n["Alive"]}
    return seen


def seen_by(module: str, root: Path) -> dict[str, Any]:
    """Return what a cluster of its own saw; in another process: this one may have a Ray already."""
    told = subprocess.run(
        [sys.executable, "-m", module, str(root)],
        capture_output=True,
        text=True,
        timeout=500,
        env={k: v for k, v in os.environ.items() if not k.startswith("RAYSUBSET_TEST")},
    )
    lines = [line for line in told.stdout.splitlines() if line.startswith("SEEN ")]
    assert lines, told.stdout[-2000:] + told.stderr[-4000:]
    return json.loads(lines[-1].removeprefix("SEEN "))


def main(root: Path) -> None:
    """Start the nodes, play, print, end the nodes."""
    import ray
    from ray.cluster_utils import Cluster

    for name in ("hidden-from-a", "hidden-from-b", "seen", "marks", "places"):
        (root / name).mkdir()
    os.environ |= {
        PLACES: str(root / "places"),
        "RAYSUBSET_TEST_MARKS": str(root / "marks"),
        "RAYSUBSET_TEST_DRIVER": str(os.getpid()),
        "RAYSUBSET_LOGICAL_GPUS": "1",
    }
    sockets = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    head = {"num_cpus": 0, "num_gpus": 0, "temp_dir": sockets, "include_dashboard": False, **SMALL}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        with ExitStack() as stack:
            stack.callback(ray.shutdown)
            print(
                "SEEN "
                + json.dumps(play(root, str(cluster.address), stack), default=np.ndarray.tolist)
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
