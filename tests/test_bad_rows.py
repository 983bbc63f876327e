"""Bad rows: refused before any work; on request left out, listed, never trained on."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysubset.cli import call
from raysubset.errors import DataError, RunFolderError, Stopped, TrainingDiverged
from raysubset.experiment import Experiment, nest
from raysubset.learn.skipped import SKIPPED
from raysubset.local_run import run_local
from raysubset.preparation import Prepared, parts_table, prepare
from raysubset.report.run_report import write_report
from raysubset.storage.staging import staged
from raysubset.verifying.examination import verify
from tests.bad_sources import KINDS, ROWS, Source, chosen_ids
from tests.learn.sources_on_disk import load, png, write_images
from tests.small_runs import Left, Watcher, assert_same_run

HERE = "tests.test_bad_rows"
SMALL: dict[str, Any] = {
    "model.name": "mlp",
    "training.epochs": 4,
    "training.batch_size": 8,
    "selection.fraction": 0.4,
    "selection.select_every": 2,
    "selection.batch_size": 16,
    "resources.workers": 2,
}
SKIP = {"data.on_bad_row": "skip"}


def ready(source: Source, **options: Any) -> Prepared:
    """Return the small run over a source, read anew."""
    own = {name.replace("__", "."): value for name, value in options.items()}
    return prepare(Experiment.of(nest(SMALL | {"data.path": str(source.path)} | own)))


def skipping(source: Source, **options: Any) -> Prepared:
    return ready(source, data__on_bad_row="skip", **options)


def stopped_after_a_round(source: Source, place: str) -> None:
    """Let a run that skips rows end in its second round."""

    def stop(now: int, name: str) -> None:
        if name == "training" and "done" in watch.names:
            raise Stopped("one round is enough")

    watch = Watcher(stop)
    with pytest.raises(Stopped):
        run_local(skipping(source), place, watch=watch)


def listed(run: Path) -> list[dict[str, str]]:
    """Return the list of rows left out, as a person's own program reads it."""
    with open(run / SKIPPED, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return KINDS[request.param](tmp_path)


def test_f11_f12_f16_bad_rows_stop_the_run_before_any_work_and_name_row_and_remedy(
    source: Source, tmp_path: Path
):
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DataError) as caught:
        run_local(ready(source), tmp_path / "run")
    assert caught.value.exit_code == 2
    assert "--data.on_bad_row skip" in str(caught.value) and str(source.path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_f11_f12_f16_bad_rows_that_are_skipped_are_listed_and_never_trained_on(
    source: Source, tmp_path: Path
):
    run, prepared = tmp_path / "run", skipping(source, selection__strategy="full")
    run_local(prepared, run)
    good = set(range(ROWS)) - set(source.bad)
    assert {row["id"] for row in parts_table(prepared).to_pylist()} == good
    pool = set(prepared.problem.parts.pool.id_N.tolist())
    assert chosen_ids(run) == pool <= good  # full trains on all that there is
    rows = listed(run)
    assert {int(row["id"]): row["cause"] for row in rows} == source.bad
    assert all(row["part"] == "train" and row["where"] for row in rows)
    told = json.loads((run / "fingerprint.json").read_text())["skipped"]
    assert told["train"] == len(source.bad)
    assert verify(str(run)).exit_code == 0
    (run / SKIPPED).write_text((run / SKIPPED).read_text() + "\n")
    assert verify(str(run)).exit_code == 1


def test_f11_f12_f16_the_rows_that_stay_keep_their_ids_and_content(source: Source):
    left = load(source.path, on_bad_row="skip").train
    source.mend()
    whole = load(source.path).train
    assert whole.id_N.tolist() == list(range(ROWS)) and whole.skipped == ()
    assert set(left.id_N.tolist()) == set(range(ROWS)) - set(source.bad)
    content, label = whole.take(left.id_N)
    np.testing.assert_array_equal(left.content, content)
    np.testing.assert_array_equal(left.label_N, label)


def test_f11_f12_f16_a_run_that_skips_rows_resumes_as_if_it_never_was_stopped(
    source: Source, tmp_path: Path
):
    run_local(skipping(source), tmp_path / "whole")
    stopped_after_a_round(source, str(tmp_path / "cut"))
    first = (tmp_path / "cut" / SKIPPED).read_bytes()
    (tmp_path / "cut" / SKIPPED).unlink()  # as if it ended before this was written
    run_local(skipping(source), tmp_path / "cut", resume=True)
    assert_same_run(Left(tmp_path / "cut"), Left(tmp_path / "whole"))
    assert (tmp_path / "cut" / SKIPPED).read_bytes() == first


@pytest.mark.parametrize("kind", ["path", "URI"])
def test_f11_f12_f16_a_resume_under_other_words_for_a_bad_row_leaves_its_list_as_it_was(
    kind: str, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its hash stands in the first round's manifest; the words are some library's."""
    run = tmp_path / "run"
    place = run.as_uri() if kind == "URI" else str(run)
    stopped_after_a_round(source, place)
    first = (run / SKIPPED).read_bytes()
    monkeypatch.setattr("raysubset.listed.csv_of", lambda _: "in other words")
    run_local(skipping(source), place, resume=True)
    assert (run / SKIPPED).read_bytes() == first
    assert verify(str(run)).exit_code == 0


def test_f11_f12_f16_a_list_that_was_edited_is_not_put_right_in_silence(
    source: Source, tmp_path: Path
):
    run = tmp_path / "run"
    stopped_after_a_round(source, str(run))
    (run / SKIPPED).write_text("part,id,where,cause,detail\n")
    run_local(skipping(source), run, resume=True)
    assert "run files" in verify(str(run)).verdict


def test_a_folder_behind_a_uri_is_fetched_with_its_list_of_bad_rows(source: Source, tmp_path: Path):
    run_local(skipping(source), (tmp_path / "run").as_uri())
    with staged((tmp_path / "run").as_uri(), write=False) as folder:
        assert listed(folder) == listed(tmp_path / "run") != []


def test_f21_a_disk_that_is_full_before_the_list_is_written_is_told_and_the_folder_let_go_of(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("raysubset.listed.write_text", full)
        with pytest.raises(RunFolderError, match=r"run folder .*No space left.*make room"):
            run_local(skipping(source), tmp_path / "run")
    run_local(skipping(source), tmp_path / "run", resume=True)
    assert len(listed(tmp_path / "run")) == len(source.bad)


def test_f18_a_row_that_was_mended_meanwhile_refuses_to_resume_and_shows_the_difference(
    source: Source, tmp_path: Path
):
    run_local(skipping(source), tmp_path / "run")
    source.mend()
    with pytest.raises(RunFolderError, match=rf"data skipped: .*'train': {len(source.bad)}.*None"):
        run_local(skipping(source), tmp_path / "run", resume=True)
    with pytest.raises(RunFolderError, match=r"data\.on_bad_row: skip -> refuse"):
        run_local(ready(source), tmp_path / "run", resume=True)


def test_f11_f12_f16_console_and_report_tell_how_many_rows_were_left_out_and_why(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"--{name}={value}" for name, value in SMALL.items()]
    words += ["--data", str(source.path), "--on-bad-sample=skip", "--local"]
    run = tmp_path / "run"
    assert call(["run", *words, "--run-dir", str(run)])[0] == 0
    told = f"left out {len(source.bad)} bad rows (train {len(source.bad)}; "
    assert told in capsys.readouterr().out
    for name in ("report.md", "report.html"):
        page = (run / name).read_text(encoding="utf-8")
        assert told in page and SKIPPED in page
        assert all(cause in page for cause in source.bad.values())
    assert "| left out | 4 | 0 |" in (run / "report.md").read_text(encoding="utf-8")


def test_data_without_bad_rows_is_the_same_run_whether_they_would_be_skipped_or_not(
    tmp_path: Path,
):
    source = KINDS["table"](tmp_path)
    source.mend()
    refusing, willing = ready(source), skipping(source)
    assert refusing.identity == willing.identity and refusing.notes == willing.notes
    run_local(willing, tmp_path / "run")
    assert not (tmp_path / "run" / SKIPPED).exists()


# ---- what the model gives


class Poison(nn.Module):
    """Gives NaN for rows beyond a value, when it is asked for gradients and not trained."""

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = above

    def forward(self, x_BF: Tensor) -> Tensor:
        wrong_B = (x_BF[:, 0] > self.above) & (not self.training)
        return torch.where(wrong_B[:, None], torch.nan, x_BF)


def poisoned(in_shape: tuple[int, ...], num_classes: int, above: float = 2.5) -> nn.Module:
    layers = (nn.Linear(in_shape[0], 8), nn.ReLU(), nn.Linear(8, num_classes))
    return nn.Sequential(Poison(above), *layers)


def mostly_poisoned(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return poisoned(in_shape, num_classes, above=0.5)


def far_out(folder: Path, rows: Sequence[int] = (5, 21, 33)) -> dict[str, Any]:
    """Write parts of their own, of which train alone has rows far out; return the options."""
    draw = np.random.default_rng(1).uniform(-1, 1, size=(3, ROWS, 2)).round(3)
    draw[0, list(rows), 0] = 9
    paths: dict[str, Any] = {}
    for part, values in zip(("path", "validation", "test"), draw, strict=True):
        lines = [f"{a},{b},{i % 3}" for i, (a, b) in enumerate(values)]
        (folder / f"{part}.csv").write_text("\n".join(["a,b,label", *lines]) + "\n")
        paths[f"data.{part}"] = str(folder / f"{part}.csv")
    return SMALL | paths | {"model.name": f"{HERE}:poisoned", "selection.fraction": 0.5}


def test_f11_nan_from_the_model_ends_the_run_with_the_ids_and_the_remedy(tmp_path: Path):
    options = far_out(tmp_path)
    with pytest.raises(TrainingDiverged, match=r"2 rows of pool, first ids \[5, 21\].*on_bad_row"):
        run_local(prepare(Experiment.of(nest(options))), tmp_path / "run")


def test_f11_rows_for_which_the_model_gives_nan_are_left_out_of_the_choice_and_listed(
    tmp_path: Path,
):
    experiment, run = Experiment.of(nest(far_out(tmp_path) | SKIP)), tmp_path / "run"
    run_local(prepare(experiment), run)
    left = Left(run)
    rounds = [line for line in left.history if line["kind"] == "round"]
    scored = [line for line in rounds if line["strategy"] == "glister"]
    assert scored and all(line["ids_left_out"] == [5, 21, 33] for line in scored)
    for line in scored:
        ids = left.ids[line["round"]]
        assert len(set(ids)) == 30 and not {5, 21, 33} & set(ids)
    write_report(run)
    report = (run / "report.md").read_text(encoding="utf-8")
    assert "NaN or infinity for 3 rows (id 5, 21, 33) in 1 round" in report

    def stop(now: int, name: str) -> None:
        if name == "training" and "done" in watch.names:
            raise Stopped("the choice stands, and is not made again")

    watch = Watcher(stop)
    with pytest.raises(Stopped):
        run_local(prepare(experiment), tmp_path / "cut", watch=watch)
    run_local(prepare(experiment), tmp_path / "cut", resume=True)
    assert_same_run(Left(tmp_path / "cut"), left)


def test_f11_a_model_that_gives_nan_for_most_rows_ends_the_run_even_with_skip(tmp_path: Path):
    options = far_out(tmp_path, range(40)) | SKIP | {"model.name": f"{HERE}:mostly_poisoned"}
    with pytest.raises(TrainingDiverged, match=r"for 40 of 60 pool rows.*lower --training\.lr"):
        run_local(prepare(Experiment.of(nest(options))), tmp_path / "run")


def test_f11_too_few_rows_with_a_gradient_for_the_budget_end_the_run_with_both_numbers(
    tmp_path: Path,
):
    options = far_out(tmp_path) | SKIP | {"selection.fraction": 0.98}
    with pytest.raises(DataError, match=r"57 for a budget of 58; .*lower --selection\.fraction"):
        run_local(prepare(Experiment.of(nest(options))), tmp_path / "run")


# ---- the same rows in two parts


def test_f19_an_image_that_stands_in_train_and_test_is_counted_and_named_in_the_report(
    tmp_path: Path,
):
    images = {"train": range(ROWS), "val": range(100, 109), "test": (500, 20, 501)}
    for part, seeds in images.items():
        content: list[bytes | None] = [png(i) for i in seeds]
        labels = [i % 3 for i in range(len(seeds))]
        if part == "train":
            content[9] = content[8]
        write_images(tmp_path / "data" / f"{part}.parquet", content, labels)
    prepared = ready(Source(path=tmp_path / "data", bad={}, mend=lambda: None))
    run_local(prepared, tmp_path / "run")
    write_report(tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8").replace("\\", "")
    for told in (
        "1 of 60 pool rows also stand in test (first: id 20 train/20.png)",
        "1 of 60 pool rows are exact duplicates of an earlier row (first: id 9 train/9.png)",
    ):
        assert told in prepared.notes and told in report


def test_f11_a_selection_from_embeddings_lists_the_rows_that_it_left_out_by_their_own_ids(
    tmp_path: Path,
):
    draw = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    draw[[7, 31], 2] = np.nan
    given = tmp_path / "e.npz"
    np.savez(given, embeddings=draw, labels=np.arange(ROWS) % 3, ids=np.arange(ROWS) + 2**40)
    words = ["--strategy", "random", "--fraction", "0.5", "--local"]
    words += ["--embeddings", str(given), "--run-dir", str(tmp_path / "out")]
    assert call(["select", *words])[0] == 2
    assert not (tmp_path / "out").exists()
    assert call(["select", *words, "--on-bad-sample=skip"])[0] == 0
    assert [int(row["id"]) for row in listed(tmp_path / "out")] == [2**40 + 7, 2**40 + 31]
    record = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert SKIPPED in record["files"] and record["identity"]["skipped"]["train"] == 2
    ids = {int(line) for line in (tmp_path / "out" / "ids.txt").read_text().splitlines()}
    assert ids and not ids & {2**40 + 7, 2**40 + 31}
