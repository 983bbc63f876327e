"""What each check says of facts; all pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysubset.doctor.doors import check_auth, check_dashboard, check_token_file
from raysubset.doctor.examination import check_nodes
from raysubset.doctor.facts import ClusterFacts, FolderProbe, NodeFacts
from raysubset.doctor.finding import Diagnosis, Finding
from raysubset.doctor.fitting import Plan, check_disk, check_memory
from raysubset.doctor.size import Size
from raysubset.doctor.software import check_holes, check_versions
from raysubset.doctor.spilling import check_spill_disk
from raysubset.doctor.storing import DriverProbe, check_storage, driver_probe
from raysubset.doctor.text import lines_of
from tests.doctor.nodes import DASHBOARD, GCS, cluster, head, node

GIGABYTE = 10**9
SIZE = Size(
    data=GIGABYTE,
    pool=GIGABYTE,
    factors=GIGABYTE // 10,
    rank=GIGABYTE,
    scorer=GIGABYTE,
    disk=GIGABYTE,
    checkpoint=10**8,
)
THERE = DriverProbe(shown="/mnt/run", folder="/mnt", nonce=("n", "x"), free=10**12)


def test_f32_equal_versions_are_well_and_a_different_or_missing_one_is_named_with_its_node():
    assert check_versions([node("a"), node("b")], {}).status == "ok"
    for versions, told in (
        ({"torch": "2.14.0"}, "torch differs: 2.15.0+cu128 on a, 2.14.0 on b"),
        ({"pyarrow": None}, "pyarrow differs: 26.0.1 on a, none on b"),
    ):
        found = check_versions([node("a"), node("b", versions=versions)], {})
        assert (found.status, found.found) == ("failed", told)
    nowhere = [node(name, versions={"raysubset": None}) for name in "ab"]
    assert check_versions(nowhere, {}).found == "no raysubset on a, b"


def test_a_node_that_does_not_answer_is_named():
    found = check_versions([node("a")], {"b": "no answer within 40 s"})
    assert found.status == "failed"
    assert "b did not answer (no answer within 40 s)" in found.found


@pytest.mark.parametrize(
    ("package", "version", "holes", "remedy"),
    [
        ("ray", "2.51.2", ["CVE-2025-62593", "CVE-2026-27482"], "ray>=2.54"),
        ("ray", "2.53.0", ["GHSA-gx77-xgc2-4888", "CVE-2026-27482"], "ray>=2.54"),
        ("ray", "1.13.0", ["CVE-2025-62593", "CVE-2026-27482"], "ray>=2.54"),
        ("torch", "2.9.1+cu128", ["CVE-2026-24747"], "torch>=2.10"),
    ],
)
def test_f31_a_version_with_a_known_hole_fails_by_the_name_of_the_hole(
    package: str, version: str, holes: list[str], remedy: str
):
    found = check_holes([node("a"), node("b", versions={package: version})])
    assert found.status == "failed"
    assert f"{package} {version} on b" in found.found
    assert all(hole in found.found for hole in holes)
    assert remedy in found.remedy


@pytest.mark.parametrize(("ray", "torch"), [("2.54.0", "2.10.0"), ("3.0.0", "10.0"), (None, None)])
def test_f31_versions_at_a_floor_or_above_have_no_known_hole(ray: str | None, torch: str | None):
    assert check_holes([node(versions={"ray": ray, "torch": torch})]).status == "ok"
    fixed = check_holes([node(versions={"ray": "2.52.1"})])
    assert "CVE-2025-62593" not in fixed.found and "CVE-2026-27482" in fixed.found


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (cluster(), "ok"),
        (cluster(http_status=None), "ok"),
        (cluster(http_status=403), "ok"),
        (cluster(http_status=200), "failed"),
        (cluster(head(), node(auth="disabled")), "failed"),
        (cluster(head(), node(auth=None)), "failed"),
        (cluster(head(auth="disabled"), http_status=200), "failed"),
    ],
)
def test_f31_authentication_is_on_where_every_node_says_so_and_the_dashboard_refuses(
    facts: ClusterFacts, status: str
):
    assert check_auth(facts).status == status


def test_f31_a_cluster_that_only_its_own_machine_reaches_is_warned_about():
    shut = {DASHBOARD: ("127.0.0.1",), GCS: ("127.0.0.1",)}
    facts = cluster(head(auth="disabled", listening=shut), http_status=200)
    assert check_auth(facts).status == "warning"
    assert check_dashboard(facts).status == "ok"


@pytest.mark.parametrize(
    ("listens", "http_status", "auth", "status"),
    [
        (("127.0.0.1",), 401, "token", "ok"),
        (("127.0.0.1", "::1"), 200, "disabled", "ok"),
        (("0.0.0.0",), 401, "token", "warning"),
        (("0.0.0.0",), None, "token", "warning"),
        (("0.0.0.0",), 200, "token", "failed"),
        (("::",), 200, "disabled", "failed"),
        (("10.0.0.9",), None, "disabled", "failed"),
    ],
)
def test_f31_a_dashboard_open_to_others_fails_without_a_token_and_warns_with_one(
    listens: tuple[str, ...], http_status: int | None, auth: str, status: str
):
    facts = cluster(head(auth=auth, listening={DASHBOARD: listens}), http_status=http_status)
    found = check_dashboard(facts)
    assert found.status == status
    assert ("--dashboard-host=127.0.0.1" in found.remedy) == (status != "ok")
    assert ("CVE-2023-48022" in found.found) == (status == "failed")


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1:8265", "ok"), ("10.0.0.9:8265", "failed"), (None, "ok")]
)
def test_f31_where_sockets_cannot_be_seen_the_cluster_s_word_on_its_dashboard_counts(
    address: str | None, status: str
):
    facts = cluster(head(listening={}), dashboard=address, http_status=200)
    assert check_dashboard(facts).status == status


@pytest.mark.parametrize(
    ("mode", "status"), [(0o600, "ok"), (0o400, "ok"), (0o644, "warning"), (0o640, "warning")]
)
def test_f31_a_token_that_others_can_read_is_a_warning_with_the_command_that_cures_it(
    mode: int, status: str
):
    found = check_token_file([node("a"), node("b", token_mode=mode, token_path="/t/auth_token")])
    assert found.status == status
    assert ("chmod 600 /t/auth_token on b" in found.remedy) == (status == "warning")
    assert check_token_file([node(token_mode=None)]).status == "ok"


def test_f31_an_open_cluster_of_an_old_ray_fails_by_the_name_of_every_hole():
    """Nobody who looks at the exit code alone, or at the screen alone, can miss it."""
    old = head(
        auth="disabled",
        listening={DASHBOARD: ("0.0.0.0",), GCS: ("0.0.0.0",)},
        versions={"ray": "2.51.0"},
        token_mode=0o644,
    )
    facts = cluster(old, dashboard=f"0.0.0.0:{DASHBOARD}", http_status=200)
    findings = check_nodes(node("driver", versions={"ray": "2.51.0"}), facts, THERE)
    diagnosis = Diagnosis(where="the cluster", findings=tuple(findings))
    screen = "\n".join(line.plain for line in lines_of(diagnosis, 110))
    assert diagnosis.exit_code == 1
    for name in ("CVE-2023-48022", "CVE-2025-62593", "CVE-2026-27482", "GHSA-gx77-xgc2-4888"):
        assert name in screen and name in json.dumps(diagnosis.to_json())
    status = {finding.name: finding.status for finding in findings}
    assert status == {
        "versions": "ok",
        "known holes": "failed",
        "authentication": "failed",
        "token file": "warning",
        "dashboard": "failed",
        "storage": "ok",
        "spill disk": "ok",
    }
    assert "3 problems would stop or endanger this run" in screen


def test_a_used_folder_is_told_before_a_run_is_refused_there(tmp_path: Path):
    (tmp_path / "frontier.yaml").write_text("")
    with driver_probe(str(tmp_path), "there") as driver:
        found = check_storage(driver, [])
    assert found.status == "warning" and "--resume" in found.remedy
    (tmp_path / "frontier.yaml").unlink()
    with driver_probe(str(tmp_path), "there") as driver:
        assert check_storage(driver, []).status == "ok"


@pytest.mark.parametrize(
    ("driver", "probe", "status", "told"),
    [
        (THERE, FolderProbe(error=None, shared=True), "ok", "the same folder on 2 nodes"),
        (THERE, FolderProbe(error=None, shared=False), "warning", "is another folder on b"),
        (THERE, FolderProbe(error="No such file", shared=False), "warning", "another folder on b"),
        (THERE, FolderProbe(error="Permission denied", shared=True), "warning", "written on b"),
        (DriverProbe(shown="/x", error="/x cannot be written"), None, "failed", "cannot be"),
        (DriverProbe(shown="s3://b/x", uri=True), None, "ok", "only the driver goes there"),
    ],
)
def test_storage_fails_where_the_driver_cannot_write_and_warns_where_nodes_see_another_folder(
    driver: DriverProbe, probe: FolderProbe | None, status: str, told: str
):
    nodes = [node("a", probe=None if probe is None else FolderProbe(error=None, shared=True))]
    found = check_storage(driver, [*nodes, node("b", probe=probe)])
    assert found.status == status
    assert told in found.found


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({}, "ok", ""),
        (
            {"object_store_bytes": 10**9},
            "warning",
            "object store is nearly full, or spills to disk",
        ),
        (
            {"object_store_bytes": int(1.3 * GIGABYTE)},
            "warning",
            "object store is nearly full, or spills to disk",
        ),
        ({"memory_bytes": 2 * GIGABYTE}, "failed", "memory is too small"),
        ({"memory_bytes": 6 * GIGABYTE}, "warning", "memory is nearly full, or spills to disk"),
    ],
)
def test_what_does_not_fit_fails_and_what_hardly_fits_warns(
    changes: dict[str, Any], status: str, told: str
):
    found = check_memory(SIZE, Plan(workers=2, scorers=1, device="cpu"), [node(**changes)])
    assert found.status == status
    assert found.found.endswith(told)
    assert bool(found.remedy) == (status != "ok")


def test_a_disk_with_too_little_room_fails_and_one_that_is_not_known_does_not():
    assert [check_disk(SIZE, 2, free, "/x").status for free in (10**8, 11 * 10**8, 10**12)] == [
        "failed",
        "warning",
        "ok",
    ]
    assert check_disk(SIZE, 2, None, "s3://b/x").status == "ok"


def test_f21_a_disk_to_which_ray_would_not_spill_fails_by_node_and_folder():
    def judged(used: float | None) -> Finding:
        nodes = [node(spill_used=0.2), node("10.0.0.2", spill_folder="/tmp/ray", spill_used=used)]
        return check_spill_disk(nodes)

    assert [judged(used).status for used in (0.5, 0.92, 0.96)] == ["ok", "warning", "failed"]
    assert "96% of the disk under /tmp/ray on 10.0.0.2" in judged(0.96).found
    assert "RAY_TMPDIR" in judged(0.96).remedy
    assert check_spill_disk([node()]).status == "ok"


def finding(status: Any, name: str = "room") -> Finding:
    return Finding(name=name, status=status, found="found this", remedy="do that")


@pytest.mark.parametrize(
    ("statuses", "strict", "code"),
    [
        (["ok", "skipped"], True, 0),
        (["ok", "warning"], False, 0),
        (["ok", "warning"], True, 1),
        (["warning", "failed"], False, 1),
    ],
)
def test_the_exit_code_is_1_where_something_failed_and_strictly_where_something_warns(
    statuses: list[str], strict: bool, code: int
):
    findings = tuple(finding(status) for status in statuses)
    assert Diagnosis(where="here", findings=findings, strict=strict).exit_code == code


def test_the_screen_says_the_same_without_colour_and_ends_with_the_verdict():
    findings = (finding("ok", "data"), finding("failed"), finding("warning", "disk"))
    lines = [line.plain for line in lines_of(Diagnosis(where="here", findings=findings), 80)]
    assert lines[-1] == ("1 problem would stop or endanger this run: room (1 warning)")
    assert [line.split()[0] for line in lines if "found this" in line] == [
        "ok",
        "FAILED",
        "WARNING",
    ]
    assert sum("-> do that" in line for line in lines) == 2


def test_long_sentences_are_wrapped_and_no_command_is_cut_in_two():
    long = Finding(
        name="room", status="failed", found="word " * 60, remedy="use --" + "x" * 90 + " now"
    )
    lines = [line.plain for line in lines_of(Diagnosis(where="here", findings=(long,)), 80)]
    assert all(len(line) <= 80 for line in lines if "x" * 90 not in line)
    assert sum("--" + "x" * 90 in line for line in lines) == 1


def test_the_json_document_holds_every_finding_and_reads_back():
    found = check_versions([node("a"), node("b", versions={"torch": None})], {})
    document = Diagnosis(where="here", findings=(found, finding("ok"))).to_json()
    assert json.loads(json.dumps(document)) == document
    assert set(document) == {"schema", "where", "verdict", "exit_code", "strict", "checks"}
    assert [set(check) for check in document["checks"]] == [
        {"name", "status", "found", "remedy", "facts"}
    ] * 2


def test_nodes_without_any_facts_end_no_check_in_an_error():
    bare = NodeFacts(name="a", versions={})
    facts = ClusterFacts(address="a:1", nodes=(bare,))
    for found in (
        check_versions([bare], {}),
        check_holes([bare]),
        check_auth(facts),
        check_token_file([bare]),
        check_dashboard(facts),
        check_storage(THERE, [bare]),
        check_memory(SIZE, Plan(workers=1, scorers=0, device="cuda"), [bare]),
    ):
        assert found.found
