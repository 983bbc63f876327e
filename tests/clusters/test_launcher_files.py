"""The files for `ray up` are what Ray's launcher accepts, and keep the laws that it does not check.

Of a Google Cloud file Ray checks offline the same as of one for AWS: every key of its own, node
types and their counts, Docker. What stands below `node_config` is the cloud's, and nobody reads it.
"""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from jobs import pin

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "jobs/clusters/gcp.yaml"]
START_COMMANDS = ["head_start_ray_commands", "worker_start_ray_commands"]
TOKEN = "/home/ray/.ray/auth_token"
Config = dict[str, Any]


@pytest.fixture(params=FILES)
def text(request: pytest.FixtureRequest) -> str:
    return (ROOT / request.param).read_text()


@pytest.fixture
def config(text: str) -> Config:
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def launcher() -> Any:
    # a private module of Ray, with the only check there is: `ray up` has no dry run
    return pytest.importorskip("ray.autoscaler._private.util")


def ray_start(config: Config, section: str) -> str:
    """Return the one `ray start` line of a section."""
    (line,) = (line for line in config[section] if "ray start" in line)
    return line


def workers(config: Config) -> dict[str, Config]:
    """Return the node types beside the head's."""
    types = config["available_node_types"]
    return {name: node for name, node in types.items() if name != config["head_node_type"]}


def is_spot(node: Config) -> bool:
    """Return whether a node type is bought as spot, in either cloud's words."""
    told = node["node_config"]
    aws = told.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    return aws or told.get("scheduling", {}).get("provisioningModel") == "SPOT"


def test_ray_accepts_the_file(launcher: Any, config: Config) -> None:
    launcher.validate_config(launcher.prepare_config(config))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"head_node_type": "no_such_type"}, "head_node_type"),
        ({"idle_timeout": 5}, "idle_timeout"),
        ({"max_workers": "four"}, "'four' is not"),
    ],
)
def test_rays_check_does_refuse(launcher: Any, config: Config, wrong: Config, told: str) -> None:
    broken = copy.deepcopy(config) | wrong
    with pytest.raises(Exception, match=told):  # a ValueError, or jsonschema's own error
        launcher.validate_config(launcher.prepare_config(broken))


def test_the_head_gives_no_cpu_to_work_and_is_not_spot(config: Config) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus" not in ray_start(config, "head_start_ray_commands")
    assert not is_spot(head)


@pytest.mark.parametrize("section", START_COMMANDS)
def test_a_node_starts_only_with_token_authentication(config: Config, section: str) -> None:
    line = ray_start(config, section)
    assert re.search(r"(^|[\s;])RAY_AUTH_MODE=token\s(.*\s)?ray start\s", line)


def test_what_is_typed_inside_a_container_sends_the_token(config: Config) -> None:
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]


def test_the_token_reaches_the_containers_user_and_nobody_else(config: Config, text: str) -> None:
    assert config["file_mounts"][TOKEN] == "~/.ray/auth_token"
    # Owned, not only readable: nobody may change the mode of another's file.
    owned = f"test -O {TOKEN} || sudo chown $(id -u):$(id -g) {TOKEN}; chmod 600 {TOKEN}"
    assert owned in config["setup_commands"]
    assert "chmod 600 ~/.ray/auth_token" in text  # Ray generates it readable for everyone


def test_f31_the_dashboard_listens_on_loopback_alone(config: Config, text: str) -> None:
    line = ray_start(config, START_COMMANDS[0])
    assert re.findall(r"--dashboard-host[= ](\S+)", line) == ["127.0.0.1"]
    assert "0.0.0.0" not in text


def test_a_stopped_job_has_time_to_commit(config: Config) -> None:
    line = ray_start(config, START_COMMANDS[0])
    (seconds,) = re.findall(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", line)
    assert int(seconds) >= 30


def test_an_idle_cluster_shrinks_to_its_head(config: Config) -> None:
    nodes = workers(config).values()
    assert [node["min_workers"] for node in nodes] == [0] * len(nodes)
    # Ray accepts a node type whose own maximum exceeds the cluster's, and then ignores it
    assert max(node["max_workers"] for node in nodes) <= config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 30


def test_workers_are_spot_and_the_same_machine_waits_on_demand(config: Config) -> None:
    spot, on_demand = workers(config)["gpu_spot"], workers(config)["gpu_on_demand"]
    assert is_spot(spot) and not is_spot(on_demand)
    assert spot["max_workers"] == config["max_workers"] and on_demand["max_workers"] == 0
    kinds = {"InstanceType", "machineType"}
    assert [spot["node_config"].get(k) for k in kinds] == [
        on_demand["node_config"].get(k) for k in kinds
    ]
    assert spot["resources"] == on_demand["resources"]


def test_no_worker_has_rights_in_the_cloud(config: Config) -> None:
    for node in workers(config).values():
        assert not {"IamInstanceProfile", "serviceAccounts"} & set(node["node_config"])


def test_the_image_has_the_pinned_ray_and_names_its_cuda(config: Config) -> None:
    image = rf"rayproject/ray:{re.escape(pinned_ray())}-py31[123]-cu\d+"
    assert re.fullmatch(image, config["docker"]["image"])


def test_both_clouds_run_the_same_image_and_commands() -> None:
    one, other = (yaml.safe_load((ROOT / name).read_text()) for name in FILES)
    assert one["docker"] == other["docker"]
    for section in (*START_COMMANDS, "setup_commands", "file_mounts"):
        assert one[section] == other[section]


def test_every_node_installs_the_tested_versions(config: Config) -> None:
    (jobs,) = (remote for remote, local in config["file_mounts"].items() if local == "jobs")
    assert f"pip install -r {jobs}/requirements.txt" in config["setup_commands"]


def test_a_file_says_that_it_was_never_launched_and_how_to_end_it(text: str) -> None:
    assert "never\n# been launched" in text or "never been launched" in text
    assert "ray down" in text and "python -m jobs.train" in text


def pinned_ray() -> str:
    """Return the version of Ray in the tested list."""
    pins = map(Requirement, pin.read_requirements(ROOT / "jobs" / "requirements.txt"))
    (version,) = (str(row.specifier).strip("=") for row in pins if row.name == "ray")
    return version
