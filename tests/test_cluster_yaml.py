"""cluster.yaml is what Ray's launcher accepts, and keeps the laws that Ray does not check."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from jobs import pin

ROOT = Path(__file__).resolve().parents[1]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
START_COMMANDS = ["head_start_ray_commands", "worker_start_ray_commands"]


@pytest.fixture(scope="module")
def launcher() -> Any:
    # a private module of Ray, with the only check there is: `ray up` has no dry run
    return pytest.importorskip("ray.autoscaler._private.util")


def ray_start(section: str) -> str:
    """Return the one `ray start` line of a section."""
    (line,) = (line for line in CONFIG[section] if "ray start" in line)
    return line


def test_ray_accepts_the_file(launcher: Any) -> None:
    launcher.validate_config(launcher.prepare_config(copy.deepcopy(CONFIG)))


def test_rays_check_does_refuse(launcher: Any) -> None:
    wrong = {**copy.deepcopy(CONFIG), "head_node_type": "no_such_type"}
    with pytest.raises(ValueError, match="head_node_type"):
        launcher.validate_config(launcher.prepare_config(wrong))


def test_the_head_gives_no_cpu_to_work() -> None:
    head = CONFIG["available_node_types"][CONFIG["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus" not in ray_start("head_start_ray_commands")


@pytest.mark.parametrize("section", START_COMMANDS)
def test_a_node_starts_only_with_token_authentication(section: str) -> None:
    assert re.search(r"(^|[\s;])RAY_AUTH_MODE=token\s(.*\s)?ray start\s", ray_start(section))


def test_the_token_reaches_the_home_of_the_containers_user() -> None:
    assert CONFIG["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_listens_on_loopback_alone() -> None:
    assert re.findall(r"--dashboard-host[= ](\S+)", ray_start(START_COMMANDS[0])) == ["127.0.0.1"]
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()


def test_a_stopped_job_has_time_to_commit() -> None:
    (seconds,) = re.findall(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", ray_start(START_COMMANDS[0]))
    assert int(seconds) >= 30


def test_an_idle_cluster_shrinks_to_its_head() -> None:
    workers = [
        node
        for name, node in CONFIG["available_node_types"].items()
        if name != CONFIG["head_node_type"]
    ]
    assert [node["min_workers"] for node in workers] == [0] * len(workers)
    # Ray accepts a node type whose own maximum exceeds the cluster's, and then ignores it
    assert max(node["max_workers"] for node in workers) <= CONFIG["max_workers"]
    assert 0 < CONFIG["idle_timeout_minutes"] <= 30


def test_the_image_has_the_tested_ray_and_names_its_cuda() -> None:
    pins = map(Requirement, pin.read_requirements(ROOT / "jobs" / "requirements.txt"))
    (version,) = (str(row.specifier).strip("=") for row in pins if row.name == "ray")
    assert re.fullmatch(
        rf"rayproject/ray:{re.escape(version)}-py31[123]-cu\d+", CONFIG["docker"]["image"]
    )


def test_every_node_installs_the_tested_versions() -> None:
    (jobs,) = (remote for remote, local in CONFIG["file_mounts"].items() if local == "jobs")
    assert f"pip install -r {jobs}/requirements.txt" in CONFIG["setup_commands"]
