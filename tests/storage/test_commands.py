"""What people type with a URI, and that it is what they would have got from a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs.sweep import main as sweep_job
from jobs.train import main as train_job
from raysubset.cli import call
from raysubset.frontier.sweep import read_sweep
from raysubset.storage import owner
from raysubset.storage.staging import staged
from tests.buckets import URI, Bucket, Dead
from tests.frontier.sweeps import given

SMALL = (
    "--data.limit 200 --model.name mlp --epochs 2 --selection.select_every 1 "
    "--selection.glister.picks blocks(3) --selection.batch_size 32 --local"
).split()
FEW = "--fractions 0.3 --strategies glister --seeds 1 --max-drop none --no-controls".split()


@pytest.fixture(autouse=True)
def _here(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(owner, "BEAT_S", 60.0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_run_is_asked_and_reported_by_its_uri(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    answers = dict[str, list[str]]()
    for place in (URI, "plain"):
        code, value = call(["run", "--run-dir", place, *SMALL])
        assert code == 0 and str(value[1]) == (URI if place == URI else str(Path(place).absolute()))
        told = capsys.readouterr().out
        assert f"run folder: {value[1]}\n" in told and f"report: {value[1]}/report.html\n" in told
        chosen = call(["export", place])[0], capsys.readouterr().out.strip()
        assert chosen == (0, f"{place}/ids-round-0001.txt")
        ids = bucket.folder / "run" if place == URI else Path(place)
        answers[place] = (ids / "ids-round-0001.txt").read_text().split()
        call(["explain", place, "--id", answers[place][0]])
        answers[place] += capsys.readouterr().out.splitlines()
    assert answers[URI] == answers["plain"]
    page = (bucket.folder / "run" / "report.html").read_text()
    assert URI in page and str(tmp_path) not in page
    assert call(["report", URI])[0] == 0
    assert capsys.readouterr().out == f"{URI}/report.html\n"
    assert call(["report", URI, "plain", "--output", "s3://bucket/both"])[0] == 0
    assert URI in (bucket.folder / "both" / "report.html").read_text()
    assert not any((tmp_path / "tmp").rglob("experiment.yaml"))


def test_what_is_wrong_is_told_by_the_uri(bucket: Bucket, capsys: pytest.CaptureFixture[str]):
    for words, why in (
        (["run", "--resume", "--run-dir", URI], f"nothing to resume in {URI}"),
        (["frontier", "--resume", "--run-dir", URI], f"{URI} holds no frontier"),
        (["export", URI], f"{URI} holds no run"),
        (["explain", URI, "--id", "1"], f"{URI} holds no run"),
        (["report", URI], f"{URI} holds no run, comparison or frontier"),
    ):
        assert call(words)[0] == 2
        assert why in capsys.readouterr().err


def test_a_comparison_lies_behind_one_uri(bucket: Bucket, capsys: pytest.CaptureFixture[str]):
    assert call(["compare", "--run-dir", URI, *SMALL])[0] == 0
    names = ("glister", "adaptive-random", "full-compressed")
    for name in names:
        assert (bucket.folder / "run" / name / "result.json").is_file()
        assert (bucket.folder / "run" / name / "report.html").is_file()
    page = (bucket.folder / "run" / "report.html").read_text()
    assert all(f"{URI}/{name}" in page for name in names)
    capsys.readouterr()
    assert call(["export", f"{URI}/glister", "--format", "json"])[0] == 0
    assert capsys.readouterr().out == f"{URI}/glister/ids-round-0001.json\n"


def test_a_frontier_on_a_uri_is_the_frontier_on_a_folder(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
):
    for place in (URI, "plain"):
        assert call(["frontier", "--run-dir", place, *SMALL, *FEW, "--tune-lr", "2"])[0] == 0
    rows = given(read_sweep(bucket.folder / "run").rows())
    assert rows == given(read_sweep("plain").rows()) != {}
    assert not list(bucket.folder.rglob("trainer.pt"))
    assert f"frontier folder: {URI}\n" in capsys.readouterr().out
    before = len(bucket.changes)
    assert call(["frontier", "--run-dir", URI, "--resume", "--local"])[0] == 0
    assert "0 left to run" in capsys.readouterr().out
    assert not [name for _, name in bucket.changes[before:] if "/trials/" in name]


def test_a_frontier_that_was_killed_goes_on_with_what_is_missing(bucket: Bucket):
    words = ["frontier", "--run-dir", URI, *SMALL, *FEW]
    seen = list[str]()

    def meet(verb: str, name: str) -> None:
        if verb == "write" and name.endswith("result.json"):
            seen.append(name)
            if len(seen) == 2:
                bucket.die_at(0)
                raise Dead(name)

    bucket.meet = meet
    with pytest.raises(Dead):
        call(words)
    bucket.live()
    first = Path(seen[0]).parent.name
    before = len(bucket.changes)
    assert call([*words, "--resume"])[0] == 0
    assert not [name for _, name in bucket.changes[before:] if f"/{first}/" in name]
    assert len(read_sweep(bucket.folder / "run").rows()) == 2


def test_a_failed_trial_is_noted_in_the_store_and_forgotten_once_it_ran(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["frontier", "--run-dir", URI, *SMALL, *FEW]
    with monkeypatch.context() as patch:
        patch.setattr("raysubset.frontier.trial.run_local", _broken)
        assert call(words)[0] == 0
    assert "failed: RuntimeError: broken" in capsys.readouterr().out
    failed = list(bucket.folder.glob("run/trials/*/failed.json"))
    assert len(failed) == 2 and "broken" in failed[0].read_text()
    assert call([*words, "--resume"])[0] == 0
    assert not list(bucket.folder.glob("run/trials/*/failed.json"))
    assert len(list(bucket.folder.glob("run/trials/*/trial.json"))) == 2


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("broken")


def test_jobs_take_a_uri_and_go_on_where_it_is_used(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
):
    for job, words, key in (
        (train_job, ["--run-dir", URI], "test_accuracy"),
        (sweep_job, ["--run-dir", "s3://bucket/f", *FEW], "trials"),
    ):
        told = list[dict[str, object]]()
        for _ in range(2):
            assert job([*words, *SMALL]) == 0
            line = capsys.readouterr().out.strip().splitlines()[-1]
            told.append(json.loads(line.removeprefix("RESULT ")))
        assert told[0]["run_dir"] == words[1] and told[0][key] == told[1][key]
    with staged("s3://bucket/f", write=False) as folder:
        assert len(read_sweep(folder).rows()) == 2
