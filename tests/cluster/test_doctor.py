"""The doctor's command: on this machine alone, where no cluster answers, and on a real Ray."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from raysubset.cli import call
from tests.learn.sources_on_disk import png, write_images

SMALL = (
    "--data digits --data.limit 200 --epochs 6 --selection.select_every 2 --model.name mlp "
    "--selection.batch_size 32 --patience 600"
).split()

PATIENT = ["--epochs", "20", "--patience", "600"]  # a busy machine is no reason to fail


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray is meant, whatever other tests have started."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def asked(*words: str, folder: Path) -> list[str]:
    return ["doctor", *SMALL, "--run-dir", str(folder / "run"), *words]


def document(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document; nothing else stands on the screen."""
    code, _ = call([*words, "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    read = json.loads(out)
    assert read["exit_code"] == code
    return code, {check["name"]: check for check in read["checks"]} | {"verdict": read["verdict"]}


def test_on_this_machine_alone_a_sound_experiment_passes_and_says_what_was_skipped(
    tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
):
    code, _ = call(asked("--price-per-hour", "3", folder=tmp_path))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("raysubset doctor: this machine alone")
    assert lines[-1].startswith("nothing found that would stop this run (")
    assert "3 checks skipped" in lines[-1]
    assert "cost about" in out.replace("\n", " ")
    assert [line for line in lines if line.startswith("skipped")]
    assert "\x1b" not in out
    assert list(tmp_path.iterdir()) == []


def test_the_document_has_one_entry_for_every_check(
    tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
):
    code, checks = document(asked(folder=tmp_path), capsys)
    assert code == 0
    assert [name for name in checks if name != "verdict"] == [
        "versions",
        "known holes",
        "authentication",
        "token file",
        "dashboard",
        "storage",
        "spill disk",
        "room",
        "data",
        "classes",
        "duplicates",
        "model",
        "memory",
        "disk",
        "time",
    ]
    assert checks["time"]["facts"]["total_s"] > 0
    assert checks["memory"]["facts"]["factors"] > 0


def test_bad_rows_and_a_folder_that_cannot_be_written_are_findings_with_exit_code_1(
    tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
):
    images = [png(i) for i in range(60)]
    images[7] = b"no image"
    data = write_images(tmp_path / "train.parquet", images, np.arange(60) % 3)
    (tmp_path / "file").write_text("in the way")
    words = ["doctor", "--data", str(data), "--run-dir", str(tmp_path / "file"), *PATIENT]
    code, checks = document(words, capsys)
    assert code == 1
    assert checks["data"]["status"] == checks["storage"]["status"] == "failed"
    assert "row 7" in checks["data"]["found"]
    assert checks["verdict"].startswith("2 problems would stop or endanger this run: storage, data")
    # estimated all the same; whether selecting pays is for the machine's own pace to say
    assert checks["time"]["facts"]["total_s"] > 0


def test_a_warning_fails_where_none_is_allowed(
    tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
):
    images = [png(i % 30) for i in range(60)]
    data = write_images(tmp_path / "train.parquet", images, np.arange(60) % 3)
    words = ["doctor", "--data", str(data), "--run-dir", str(tmp_path), *PATIENT]
    assert document(words, capsys)[0] == 0
    code, checks = document([*words, "--strict"], capsys)
    assert code == 1
    assert checks["duplicates"]["status"] == "warning"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pateince", "3"], "did you mean --patience"),
        (["--patience", "0"], "--patience=0: give a number of seconds above 0"),
        (["--fraction", "30"], "did you mean 0.3"),
        (["nothing.yaml"], "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_bad_usage(
    words: list[str], told: str, alone: None, capsys: pytest.CaptureFixture[str]
):
    code, _ = call(["doctor", *words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert told in err


def test_a_cluster_that_does_not_answer_fails_soon_and_the_rest_is_looked_at_here(
    tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "http://127.0.0.1:8265"):
        code, checks = document(asked("--address", address, folder=tmp_path), capsys)
        assert code == 1
        assert checks["cluster"]["status"] == "failed" and address in checks["cluster"]["found"]
        assert checks["data"]["status"] == "ok"


@pytest.mark.ray
def test_on_a_ray_every_node_is_asked_and_nothing_is_left_behind(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = ray.cluster_resources()
    code, checks = document(asked(folder=tmp_path), capsys)
    assert ray.is_initialized()  # it was connected before, and stays so
    assert checks["versions"]["status"] == checks["known holes"]["status"] == "ok"
    places = list(checks["versions"]["facts"]["nodes"].values())
    assert len(places) == 2 and places[0] == places[1]
    assert checks["storage"]["facts"]["nodes"] != {}
    assert all(each["same_folder"] for each in checks["storage"]["facts"]["nodes"].values())
    # This Ray has no token: who reaches its control store runs code as its owner.
    assert checks["authentication"]["status"] in ("failed", "warning")
    assert code == (checks["authentication"]["status"] == "failed")
    assert set(checks["authentication"]["facts"]["modes"].values()) == {"disabled"}
    assert checks["memory"]["facts"]["needs"]["object store"]["of"] > 0
    assert checks["room"]["status"] in ("ok", "warning")
    assert list(tmp_path.iterdir()) == []
    assert ray.cluster_resources() == before
