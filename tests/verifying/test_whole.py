"""What `raysubset verify` says of runs of every kind, and what it never does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.chain import MANIFEST
from raysubset.cli import call
from raysubset.errors import Stopped
from raysubset.local_run import run_local
from raysubset.verifying.examination import Examined, verify
from tests.small_runs import BLOCKS, RUNS, Left, Watcher, play, prepared
from tests.verifying.runs import copied, damaged, failures, harmed

GAINS: dict[str, tuple[dict[str, Any], str]] = {
    "exact": ({"selection__glister__picks": "exact"}, "recomputed"),
    "bias": ({"selection__glister__gradient": "bias"}, "recomputed"),
    "cosine": (BLOCKS | {"selection__glister__normalize": True}, "recomputed"),
    "stochastic": ({"selection__glister__picks": "stochastic(0.1)"}, "recomputed"),
    "sum": (BLOCKS | {"selection__glister__step": "sum"}, "recomputed"),
    "filled": (BLOCKS | {"selection__glister__regularizer": "random(0.5)"}, "recomputed"),
    "diverse": ({"selection__glister__regularizer": "diversity(0.1)"}, "hold a penalty"),
    "beside": (BLOCKS | {"selection__overlap": True}, "beside training"),
    "random": ({"selection__strategy": "random"}, "made again, the same ids"),
}


def stamps(run: Path) -> dict[Path, tuple[int, int]]:
    """Return when everything in a folder was changed, and its size."""
    found = {path: path.stat() for path in (run, *run.rglob("*"))}
    return {path: (told.st_mtime_ns, told.st_size) for path, told in found.items()}


def said(examined: Examined, name: str) -> str:
    """Return all that is said by one check."""
    return " ".join(f.found for _, checks in examined.folders for f in checks if f.name == name)


@pytest.mark.parametrize("name", GAINS)
def test_gains_are_recomputed_in_float64_or_it_is_said_why_not(name: str, tmp_path: Path):
    options, expected = GAINS[name]
    play(prepared(**options, resources__keep_checkpoints=9), tmp_path / "run")
    examined = verify(str(tmp_path / "run"))
    assert examined.exit_code == 0, said(examined, "gains")
    assert expected in said(examined, "gains")
    if expected == "recomputed":
        assert "round 1" in said(examined, "gains") and "round 2" in said(examined, "gains")


@pytest.mark.parametrize("name", RUNS)
def test_runs_of_every_kind_are_whole_and_nothing_in_them_is_touched(
    name: str, undisturbed: Callable[[str], Left]
):
    run = undisturbed(name).path
    before = stamps(run)
    examined = verify(str(run), model=RUNS[name].get("model__name"))
    assert stamps(run) == before
    assert examined.exit_code == 0 and "experiment.yaml" not in said(examined, "run files")


def test_code_that_a_run_folder_names_is_not_run(
    undisturbed: Callable[[str], Left], monkeypatch: pytest.MonkeyPatch
):
    def never(*_: object) -> None:
        raise AssertionError("a person did not allow it")

    run = str(undisturbed("noisy").path)
    with monkeypatch.context() as patch:
        patch.setattr("raysubset.learn.problem.build_model", never)
        for model in (None, "os:system"):
            examined = verify(run, model=model)
            assert "--model tests.learn.ranks:noisy" in said(examined, "gains")
    assert "recomputed" in said(verify(run, model="tests.learn.ranks:noisy"), "gains")


def test_what_could_not_be_checked_is_said_and_fails_where_that_is_asked_for(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert call(["verify", str(whole)])[0] == 0
    told = capsys.readouterr().out
    assert "not checked" in told and told.rstrip().endswith("whole; not checked: files, gains")
    assert call(["verify", str(whole), "--strict"])[0] == 1
    for name in ("report.html", "rounds/0001/selection.parquet"):
        with harmed(whole / name, lambda content: content[:-9]):
            assert call(["verify", str(whole), "--no-gains"])[0] == 1
            told = capsys.readouterr().out
            assert "FAILED" in told and name in told and "->" in told and "DAMAGED" in told
            assert call(["verify", str(whole), "--no-gains", "--json"])[0] == 1
            document = json.loads(capsys.readouterr().out)
            checks = document["folders"][0]["checks"]
            first = next(c for c in checks if c["status"] == "failed")["facts"]["differences"][0]
            assert first["file"] == name and first["expected"] and first["found"]
    assert call(["verify", str(tmp_path / "none")])[0] == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_in_progress_is_whole(tmp_path: Path):
    run, states = tmp_path / "run", list[str]()

    def look(number: int, name: str) -> None:
        if name == "done" or number == 9:
            examined = verify(str(run), gains=name == "done")
            assert examined.exit_code == 0, examined.verdict
            states.append(said(examined, "progress"))

    play(prepared(**BLOCKS), run, watch=Watcher(look))
    assert "not finished" in states[0] and len(states) == 4
    assert "finished, 3 of 3" in said(verify(str(run)), "progress")


def test_kept_epochs_of_the_round_in_progress_are_looked_at(tmp_path: Path):
    options = BLOCKS | {"selection__select_every": 3}
    run = tmp_path / "run"

    def stop(number: int, name: str) -> None:
        if watch.names.count("training") == 14:
            raise Stopped("in the fifth of six epochs")

    watch = Watcher(stop)
    with pytest.raises(Stopped):
        run_local(prepared(**options), run, watch=watch)
    assert "1 epochs kept" in said(verify(str(run)), "progress")
    for path in (run / "rounds/0001/partial").rglob("*.*"):
        if path.is_file():
            with harmed(path, lambda content: content[:-1]):
                assert str(path.relative_to(run)) in damaged(run)
    assert not failures(run)


def test_a_run_of_an_older_version_is_read_and_what_it_lacks_is_said(whole: Path, tmp_path: Path):
    run, parent = copied(whole, tmp_path / "run"), ""
    (run / MANIFEST).unlink()
    (run / "report.sha256").unlink()
    from raysubset.files import json_bytes
    from tests.verifying.runs import digest

    for number in range(3):
        path = run / "rounds" / f"{number:04d}" / MANIFEST
        told = json.loads(path.read_bytes()) | {"parent": parent}
        told.pop("run", None)
        path.write_bytes(json_bytes(told))
        parent = digest(path)
    examined = verify(str(run), gains=False)
    assert examined.exit_code == 0
    assert "older version" in said(examined, "manifests")
    assert "experiment.yaml: no manifest names it" in said(examined, "run files")


def test_exported_ids_are_compared_with_what_exporting_gives(whole: Path, tmp_path: Path):
    run = copied(whole, tmp_path / "run")
    for kind in ("txt", "csv", "json"):
        assert call(["export", str(run), "--format", kind])[0] == 0
    assert not failures(run)
    for path in run.glob("ids-round-0002.*"):
        with harmed(path, lambda content: content.replace(b"1", b"2", 1)):
            assert damaged(run) == {path.name}


def test_a_comparison_is_looked_at_run_by_run(tmp_path: Path):
    folder = tmp_path / "compare"
    from tests.verifying.runs import FINISHED

    assert call(["compare", "--local", *FINISHED, "--run-dir", str(folder)])[0] == 0
    examined = verify(str(folder), gains=False)
    assert [name for name, _ in examined.folders] == [
        *("adaptive-random", "full-compressed", "glister"),
        "report",
    ]
    assert examined.exit_code == 0
    name = "full-compressed/rounds/0000/metrics.json"
    with harmed(folder / name, lambda content: content[:-1]):
        assert damaged(folder) == {name}
    with harmed(folder / "report.md", lambda content: b""):
        assert damaged(folder) == {"report.md"}


def test_a_selection_is_whole_or_the_file_is_named(whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    words = ["select", "--local", "--checkpoint", str(whole), "--run-dir", str(out)]
    assert call([*words, "--format", "csv"])[0] == 0
    assert not failures(out)
    for path in sorted(out.iterdir()):
        for at in np.linspace(0, path.stat().st_size - 1, 12).astype(int).tolist():
            flipped = lambda c, at=at: c[:at] + bytes([c[at] ^ 1]) + c[at + 1 :]  # noqa: E731
            with harmed(path, flipped):
                assert path.name in damaged(out), f"{path.name}: byte {at}"
        with harmed(path, lambda content: content[:-1]):
            assert path.name in damaged(out)


def test_a_run_behind_a_uri_is_fetched_looked_at_and_left_as_it_is(whole: Path, tmp_path: Path):
    run = copied(whole, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    assert verify(f"file://{run}", gains=False).exit_code == 0
    with harmed(run / "plots" / "accuracy.svg", lambda content: content + b" "):
        assert damaged(run) == {"plots/accuracy.svg"}
    os.utime(run / "plots" / "accuracy.svg", ns=(0, before[run / "plots" / "accuracy.svg"]))
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    assert call(["verify", f"file://{tmp_path}/none"])[0] == 2
