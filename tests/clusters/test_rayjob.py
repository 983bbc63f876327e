"""The manifest for KubeRay keeps to KubeRay's own definition, and the laws that a run needs.

Nothing here talks to Kubernetes: the fields and rules below are what was read in KubeRay.
"""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.runtime_env import RuntimeEnvConfig

from raysubset.cluster.crew import START_PATIENCE
from tests.clusters.test_launcher_files import ROOT, pinned_ray

TEXT = (ROOT / "jobs" / "clusters" / "rayjob.yaml").read_text()
ACCOUNT, JOB = yaml.safe_load_all(TEXT)
SPEC: dict[str, Any] = JOB["spec"]
CLUSTER: dict[str, Any] = SPEC["rayClusterSpec"]
HEAD: dict[str, Any] = CLUSTER["headGroupSpec"]
WORKERS: dict[str, Any] = CLUSTER["workerGroupSpecs"][0]


def closed(required: list[str], **fields: Any) -> dict[str, Any]:
    """Return the schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "required": required,
        "properties": fields,
        "additionalProperties": False,
    }


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
BOOL, COUNT, WORD = {"type": "boolean"}, {"type": "integer", "minimum": 0}, {"type": "string"}
AMOUNTS = closed([], cpu=WORD, memory=WORD, **{"nvidia.com/gpu": WORD})
LOCKED = closed(
    [],
    runAsNonRoot=BOOL,
    runAsUser=COUNT,
    allowPrivilegeEscalation=BOOL,
    capabilities=closed([], add={"type": "array"}, drop={"type": "array"}),
    seccompProfile=closed(["type"], type={"enum": ["RuntimeDefault", "Localhost"]}),
)
CONTAINER = closed(
    ["name", "image", "resources"],
    name=WORD,
    image=WORD,
    env={"type": "array", "items": closed(["name"], name=WORD, value=WORD, valueFrom={})},
    resources=closed([], requests=AMOUNTS, limits=AMOUNTS),
    securityContext=LOCKED,
)
POD = closed(
    ["spec"],
    metadata={"type": "object"},
    spec=closed(
        ["containers"],
        containers={"type": "array", "minItems": 1, "items": CONTAINER},
        serviceAccountName=WORD,
        automountServiceAccountToken=BOOL,
        restartPolicy={"const": "Never"},  # or unset, with the autoscaler's version 2
        terminationGracePeriodSeconds=COUNT,
        nodeSelector=TEXTS,
        tolerations={"type": "array"},
    ),
)
# The part of KubeRay's CRD that the manifest uses, in our words. Read in ray-project/kuberay:
# docs/reference/api.md (0057210), authOptions in pull request 4179 (1.5.1); optional fields that
# the manifest does not use are left out, so a new one takes a look there first.
SCHEMA = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed(["name"], name=WORD, labels=TEXTS, annotations=TEXTS),
    spec=closed(
        ["entrypoint", "rayClusterSpec"],
        entrypoint=WORD,
        runtimeEnvYAML=WORD,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=BOOL,
        ttlSecondsAfterFinished=COUNT,
        backoffLimit=COUNT,
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        rayClusterSpec=closed(
            ["headGroupSpec", "rayVersion"],
            rayVersion=WORD,
            authOptions=closed([], mode={"enum": ["disabled", "token"]}, secretName=WORD),
            enableInTreeAutoscaling=BOOL,
            autoscalerOptions=closed(
                [],
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=COUNT,
                upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
                resources=closed([], requests=AMOUNTS, limits=AMOUNTS),
                securityContext=LOCKED,
            ),
            headGroupSpec=closed(
                ["rayStartParams", "template"],
                serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                enableIngress=BOOL,
                rayStartParams=TEXTS,
                template=POD,
            ),
            workerGroupSpecs={
                "type": "array",
                "items": closed(
                    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                    groupName=WORD,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=TEXTS,
                    template=POD,
                ),
            },
        ),
    ),
)


def containers() -> list[dict[str, Any]]:
    """Return the one container of each group."""
    return [only(group["template"]["spec"]["containers"]) for group in (HEAD, WORKERS)]


def only(values: list[Any]) -> Any:
    """Return the only value."""
    (value,) = values
    return value


def test_every_field_is_one_of_kuberays() -> None:
    jsonschema.validate(JOB, SCHEMA)


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        (SPEC, "ttlSecondsAfterFinish", 600),  # a slip of the pen
        (CLUSTER, "authOptions", {"mode": "tokens"}),
        (HEAD, "rayStartParams", {"num-cpus": 0}),  # a number, where KubeRay takes text
        (HEAD, "serviceType", "Public"),
    ],
)
def test_the_check_does_refuse(
    monkeypatch: pytest.MonkeyPatch, place: dict[str, Any], field: str, value: Any
) -> None:
    monkeypatch.setitem(place, field, value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(JOB, SCHEMA)


def test_names_are_what_kubernetes_allows() -> None:
    # a DNS label; KubeRay appends to a job's name, so it allows 47 characters
    names = [JOB["metadata"]["name"], ACCOUNT["metadata"]["name"], WORKERS["groupName"]]
    names += [each["name"] for each in containers()]
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name) for name in names)


def test_every_pod_runs_the_image_of_cluster_yaml() -> None:
    image = yaml.safe_load((ROOT / "cluster.yaml").read_text())["docker"]["image"]
    assert {each["image"] for each in containers()} == {image}
    assert CLUSTER["rayVersion"] == pinned_ray()


def test_token_authentication_is_on_and_no_token_is_written_down() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    named = {entry["name"] for each in containers() for entry in each.get("env", [])}
    assert named == {"RAY_JOB_STOP_WAIT_TIME_S"}  # KubeRay sets the token's; no secret in an env


def test_the_head_gives_no_cpu_to_work_and_a_stopped_job_has_time() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    (entry,) = containers()[0]["env"]
    assert int(entry["value"]) >= 30
    grace = [
        group["template"]["spec"]["terminationGracePeriodSeconds"] for group in (HEAD, WORKERS)
    ]
    assert min(grace) > int(entry["value"])


def test_f31_the_dashboard_is_not_exposed() -> None:
    assert HEAD["serviceType"] == "ClusterIP" and HEAD["enableIngress"] is False


def test_nothing_is_left_that_costs_money() -> None:
    assert SPEC["shutdownAfterJobFinishes"] is True
    assert 0 < SPEC["ttlSecondsAfterFinished"] <= 3600
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert (WORKERS["minReplicas"], WORKERS["replicas"]) == (0, 0)
    assert 0 < CLUSTER["autoscalerOptions"]["idleTimeoutSeconds"] <= 1800


def test_resources_are_limited_and_a_worker_has_one_whole_gpu() -> None:
    for each in containers():
        assert each["resources"]["limits"] == each["resources"]["requests"]
        assert {"cpu", "memory"} <= set(each["resources"]["limits"])
    gpus = [each["resources"]["limits"].get("nvidia.com/gpu") for each in containers()]
    assert gpus == [None, "1"]


def test_no_container_has_more_rights_than_it_needs() -> None:
    parts = [*containers(), CLUSTER["autoscalerOptions"]]
    for context in (each["securityContext"] for each in parts):
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_the_head_has_an_identity() -> None:
    assert HEAD["template"]["spec"]["serviceAccountName"] == ACCOUNT["metadata"]["name"]
    assert "serviceAccountName" not in WORKERS["template"]["spec"]
    assert WORKERS["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_code_is_one_commit_and_its_packages_are_the_tested_ones() -> None:
    runtime = yaml.safe_load(SPEC["runtimeEnvYAML"])
    assert set(runtime) == {"working_dir", "pip", "config"}
    # Packages are installed by a worker's first process: Ray's 10 minutes and our 4 are too few.
    RuntimeEnvConfig.parse_and_validate_runtime_env_config(runtime["config"])
    assert runtime["config"]["setup_timeout_seconds"] >= 1800
    words = SPEC["entrypoint"].split()
    wait_s = START_PATIENCE * float(words[words.index("--resources.start_timeout_s") + 1])
    assert wait_s >= 1200
    assert runtime["working_dir"].startswith("https://")
    assert runtime["pip"] == ["-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/jobs/requirements.txt"]
    assert re.match(r"python -m jobs\.train --run-dir (s3|gs)://", SPEC["entrypoint"])
    module = SPEC["entrypoint"].split()[2].replace(".", "/")
    assert Path(ROOT, f"{module}.py").is_file()
