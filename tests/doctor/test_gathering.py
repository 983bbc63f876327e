"""What is gathered on this machine, and that nothing of it stays."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from raysubset.doctor.facts import node_facts
from raysubset.doctor.look import listening, look, probe_folder, token
from raysubset.doctor.storing import driver_probe
from raysubset.doctor.within import Late, within


def test_this_machine_tells_its_versions_and_memory(monkeypatch: pytest.MonkeyPatch):
    facts = node_facts("here", look([1], None, None))
    assert all(facts.versions[name] for name in ("python", "raysubset", "torch", "numpy"))
    assert facts.memory_bytes > 0 and facts.cores > 0
    assert facts.probe is None


def test_a_port_is_told_with_the_address_at_which_it_listens():
    if not Path("/proc/net/tcp").exists():
        pytest.skip("no /proc here")
    with socket.create_server(("127.0.0.1", 0)) as near, socket.create_server(("", 0)) as wide:
        assert listening(near.getsockname()[1]) == ["127.0.0.1"]
        assert listening(wide.getsockname()[1]) == ["0.0.0.0"]
        closed = near.getsockname()[1]
    assert listening(closed) == []


def test_f30_of_a_token_nothing_is_told_but_its_place_and_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "auth_token"
    path.write_text("very-secret")
    path.chmod(0o640)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert token() == {"source": "file", "path": str(path), "mode": 0o640}
    assert "very-secret" not in repr(look([], None, None))
    path.unlink()
    assert token()["mode"] is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "very-secret")
    assert token() == {"source": "environment", "path": None, "mode": None}
    assert "very-secret" not in repr(look([], None, None))


def test_a_folder_is_probed_by_node_and_driver_and_left_as_it_was(tmp_path: Path):
    place = tmp_path / "not" / "yet" / "there"
    with driver_probe(str(place), "shown") as driver:
        assert driver.error is None and driver.folder == str(tmp_path)
        found = probe_folder(str(tmp_path), driver.nonce)
        assert (found["error"], found["shared"]) == (None, True)
        other = tmp_path / "other"
        other.mkdir()
        assert probe_folder(str(other), driver.nonce)["shared"] is False
        other.rmdir()
    assert list(tmp_path.iterdir()) == []
    assert "FileNotFoundError" in probe_folder(str(place), None)["error"]


def test_a_file_in_the_way_of_the_run_folder_is_told_and_left(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with driver_probe(str(tmp_path / "file"), "shown") as driver:
        assert driver.error is not None and "cannot be written" in driver.error
    assert (tmp_path / "file").read_text() == "mine"


def test_f30_credentials_in_a_uri_are_refused_and_not_repeated():
    with driver_probe("s3://key:hush@bucket/run", "shown") as driver:
        assert driver.error is not None and "hush" not in driver.error


def test_a_call_that_hangs_is_left_and_one_that_raises_raises():
    forever = threading.Event()
    with pytest.raises(Late, match=r"a mount did not come back within 0\.05 s"):
        within(0.05, forever.wait, "a mount")
    forever.set()
    assert within(60, lambda: 7, "seven") == 7
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0, "a division")
