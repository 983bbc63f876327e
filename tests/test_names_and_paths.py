"""Names from data and folders stay names: no path out, no markup, no formula, no forged line."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from raysubset.answers import write_ids
from raysubset.chain import MANIFEST, committed_chain
from raysubset.cli import call
from raysubset.errors import RunFolderError
from raysubset.files import refuse_links_out
from raysubset.preparation import new_folder, new_run_folder
from tests.report.page_checks import Page, check_self_contained
from tests.small_runs import BLOCKS, experiment, play, prepared

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ODD = ["../../etc", "/abs", "a/b", "a\nb", "<script>", "...", "", "ünï", "a" * 300, "-rf", "a\0b"]
SMALL = "--local --model.name mlp --epochs 2 --selection.select_every 1 --seed 3".split()


@given(st.text(), st.sampled_from(["glister", "full-validation-compressed"]), st.integers(0))
@example(name="a" * 300, strategy="full-validation-compressed", seed=2**63 - 1)
def test_f27_every_name_of_a_folder_that_is_made_is_plain_and_inside_the_root(
    tmp_path_factory: pytest.TempPathFactory, name: str, strategy: str, seed: int
):
    root = tmp_path_factory.getbasetemp()
    asked = experiment(selection__strategy=strategy, seed=seed % 2**63)
    for path in (new_run_folder(asked, name, root), new_folder(name, "frontier", root)):
        assert NAME.fullmatch(path.name), path.name
        assert path.parent == root == path.resolve().parent


@pytest.mark.parametrize("name", ODD)
def test_f27_an_odd_name_of_the_data_can_be_made_a_folder(tmp_path: Path, name: str):
    path = new_run_folder(experiment(), name, tmp_path)
    assert path.parent == tmp_path and NAME.fullmatch(path.name)
    path.mkdir()


@pytest.mark.parametrize("odd", ["a\0b", "a\nb", "a\rb", "\x1b[2Jx", "\udc80", "a\x85b"])
def test_f27_a_run_folder_whose_name_forges_lines_is_refused(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for command in ("run", "compare", "frontier", "select"):
        assert call([command, "--local", "--run-dir", odd])[0] == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "choose another name" in told
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("where", [".lock", "history.jsonl", "rounds/0000", "plots", "deep/er/x"])
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_f27_a_link_out_of_a_run_folder_stops_whoever_would_write_there(
    where: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    folder, outside = tmp_path / "run", tmp_path / "outside"
    play(prepared(**BLOCKS), folder)
    if kind == "folder":
        (outside / "0009").mkdir(parents=True)  # a name that an old round would have
    elif kind == "file":
        outside.write_text("precious")
    link = folder / where
    if link.is_dir():
        link.rename(folder / "was")
    else:
        link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(RunFolderError, match=f"a link, {where}, that leads out of it, to "):
        play(prepared(**BLOCKS), folder, resume=True)
    for words in (["report", str(folder)], ["export", str(folder)]):
        assert call(words)[0] == 2
    assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert kind != "file" or outside.read_text() == "precious"


def test_f27_links_inside_a_run_folder_and_a_run_folder_that_is_one_are_fine(tmp_path: Path):
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real" / "b").symlink_to("a")
    (tmp_path / "run").symlink_to("real")
    refuse_links_out(tmp_path / "run", "run folder")


@pytest.mark.parametrize("name", ["../../evil", "/evil", "checkpoint/../../evil", "a\0b"])
def test_f27_a_manifest_that_names_a_file_outside_its_round_is_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a manifest names is fetched from a store into the folder: it could be put anywhere."""
    import json

    monkeypatch.setattr(os, "fsync", lambda _: None)
    play(prepared(**BLOCKS), tmp_path / "run")
    rounds, data = tmp_path / "run" / "rounds", prepared(**BLOCKS).identity["data"]
    assert len(list(committed_chain(rounds, data))) == 3
    path = rounds / "0002" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert len(list(committed_chain(rounds, data))) == 2


FORMULAS = ['=cmd|"/C calc"!A0', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK()"]
PLAIN = ["a.png", "-12", "+3.5", "-1e-3", "x=1", "a-b", "'quoted", ""]


def test_f27_a_key_that_a_spreadsheet_would_run_is_quoted_and_no_other_is(tmp_path: Path):
    keys = [*FORMULAS, *PLAIN, None]
    table = pa.table({"id": np.arange(len(keys)), "gain": [-0.5] * len(keys), "key": keys})
    with open(write_ids(tmp_path / "ids.csv", table, "csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [f"'{k}" for k in FORMULAS] + PLAIN + [""]
    assert {row["gain"] for row in rows} == {"-0.5"}, "a figure stays one"
    write_ids(tmp_path / "ids.parquet", table, "parquet")
    assert pa.parquet.read_table(tmp_path / "ids.parquet")["key"].to_pylist() == keys


CLASSES = ["<script>alert(1)<", "=cmd()", '"><img src=x onerror=alert(1)>', "[bold]x[", "$x_{"]


def folder_of_images(root: Path) -> Path:
    """Write 12 images into a folder for each class; the names of files are odd too."""
    rng = np.random.default_rng(0)
    for c, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(12):
            pixels = (rng.random((8, 8)) * 100 + 30 * c).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"=1+{i} <b>&\x1b[31m.png")
    return root


def test_f27_class_folders_named_like_code_are_text_in_every_page_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    data = ["--data", str(folder_of_images(tmp_path / "[b]<i>data")), "--fraction", "0.5"]
    assert call(["run", *SMALL, *data, "--run-dir", "[/b]run"])[0] == 0
    few = "--fractions 0.5 --strategies glister --seeds 1 --max-drop none --no-controls".split()
    assert call(["frontier", *SMALL, *data[:2], *few, "--run-dir", "[red]frontier"])[0] == 0
    assert call(["compare", *SMALL, *data, "--run-dir", "<b>compared"])[0] == 0
    for page in tmp_path.rglob("report.html"):
        check_self_contained(Page(page))
    assert "<script>alert(1)<" in Page(tmp_path / "[/b]run/report.html").text
    pages = [*tmp_path.rglob("report.*"), *tmp_path.rglob("*.svg")]
    assert len(pages) > 15
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text and "<img src=x" not in text and "\x1b" not in text
    capsys.readouterr()
    assert call(["export", "[/b]run", "--format", "csv"])[0] == 0
    with open(capsys.readouterr().out.strip(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and not [row for row in rows if row["key"].startswith(tuple("=+-@\t\r"))]
    assert call(["explain", "[/b]run", "--id", rows[0]["id"]])[0] == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and out.startswith(f"id {rows[0]['id']} (")
