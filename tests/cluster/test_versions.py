"""The same software at the driver and on every node, or a sentence before any work."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from raysubset.cli import call
from raysubset.cluster import session, versions
from raysubset.cluster.examining import status_without_token
from raysubset.doctor.doors import check_auth, check_dashboard
from raysubset.doctor.look import listening
from raysubset.errors import RoomError
from tests.doctor.nodes import VERSIONS, cluster, head


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ({}, []),
        ({"torch": "2.14.1+cu128"}, [("torch", "2.15.0", "2.14.1")]),
        ({"torch": "2.15.0+cpu"}, []),
        ({"raysubset": None}, [("raysubset", "0.1.0", "none")]),
        ({"python": "3.11.9"}, []),
        ({"python": "3.12.7"}, [("python", "3.11", "3.12")]),
        (
            {"numpy": "2.4.5", "ray": "2.59.0"},
            [("ray", "2.60.0", "2.59.0"), ("numpy", "2.4.6", "2.4.5")],
        ),
    ],
)
def test_f32_what_computes_something_else_is_a_difference_and_a_build_of_it_is_none(
    other: dict[str, str | None], wanted: list[tuple[str, str, str]]
):
    assert versions.differences(VERSIONS, VERSIONS | other) == wanted


def test_f32_nodes_with_other_versions_are_refused_by_name_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The refusal as a person meets it; what nodes say is made up, the rest is the command."""

    @contextmanager
    def connected(_: object) -> Generator[None]:
        yield

    asked = [("10.0.0.7", VERSIONS | {"torch": "2.14.1"}), ("10.0.0.8", VERSIONS)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "_connection", connected)
    monkeypatch.setattr(session, "find_room", lambda _: pytest.fail("room was looked for"))
    monkeypatch.setattr(versions, "_asked_of_other_nodes", lambda: asked)
    monkeypatch.setattr(versions.look, "versions", lambda: VERSIONS)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    words = "--data.limit 200 --model.name mlp --epochs 2 --selection.select_every 1".split()
    words += ["--resources.workers", "2", "--run-dir", "run"]
    assert call(["run", *words])[0] == 2
    told = capsys.readouterr().err
    assert "different software: torch 2.14.1 on 10.0.0.7, 2.15.0 at the driver." in told
    assert "10.0.0.8" not in told and "jobs/requirements.txt" in told
    assert not (tmp_path / "run").exists()


class Context:
    def get_actor_id(self) -> None:
        return None


def test_f32_ray_s_own_refusal_is_told_with_both_versions(monkeypatch: pytest.MonkeyPatch):
    told = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.58.0\n    Python: 3.12.1\n"
        "This process on 10.0.0.9 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )

    def init(**_: object) -> None:
        raise RuntimeError(told)

    monkeypatch.setattr(session, "_knock", lambda _: None)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RoomError, match=r"Ray: 2\.58\.0 Python: 3\.12\.1 This .* Ray: 2\.60\.0"):
        session._connect("10.0.0.9:6379")


@contextmanager
def answering(host: str, status: int) -> Generator[int]:
    """Give the port of a server that answers every request with this status, as a dashboard."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((host, 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("host", "status", "dashboard", "auth"),
    [
        ("0.0.0.0", 200, "failed", "failed"),
        ("0.0.0.0", 401, "warning", "ok"),
        ("127.0.0.1", 200, "ok", "failed"),
        ("127.0.0.1", 401, "ok", "ok"),
    ],
)
def test_f31_where_a_dashboard_really_listens_and_what_it_answers_decides(
    host: str, status: int, dashboard: str, auth: str
):
    if not Path("/proc/net/tcp").exists():
        pytest.skip("no /proc here")
    with answering(host, status) as port:
        facts = cluster(
            head(listening={port: tuple(listening(port))}),
            dashboard=f"127.0.0.1:{port}",  # as a cluster says it, wherever it listens
            http_status=status_without_token(f"127.0.0.1:{port}"),
        )
    found = check_dashboard(facts)
    assert (found.status, check_auth(facts).status) == (dashboard, auth)
    assert ("CVE-2023-48022" in found.found) == (dashboard == "failed")
