"""What a sampler can be made of, and what is refused before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import raysubset as rs
from raysubset.answers import export
from raysubset.cli import call
from raysubset.errors import ConfigError, RaySubsetError, RunFolderError
from raysubset.preparation import ON_VALIDATION
from tests.small_runs import Left, play, prepared

Made = Callable[[str], Left]


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table as a strategy that weighs writes it, two epochs, rows in no order."""
    path = tmp_path_factory.mktemp("weighted") / "chosen.parquet"
    ids, epoch = [4, 1, 7, 9, 0, 3], [8, 9, 8, 9, 8, 9]
    columns = {"epoch": pa.array(epoch, pa.int32()), "id": pa.array(ids, pa.int32())}
    pq.write_table(pa.table({**columns, "weight": np.arange(6) + 0.5}), path)
    return path


def slices_of(round_: Path) -> list[list[int]]:
    """The ids of each epoch of a round, read row by row."""
    found: dict[int, list[int]] = {}
    for row in pq.read_table(round_ / "selection.parquet").to_pylist():
        found.setdefault(row["epoch"], []).append(row["id"])
    return [found[epoch] for epoch in sorted(found)]


@pytest.mark.parametrize("name", ["glister", "adaptive", "smaller", "warm"])
def test_a_run_gives_its_last_round_or_the_one_that_is_named(undisturbed: Made, name: str):
    left = undisturbed(name)
    for number, round_ in [(None, left.rounds[-1]), *enumerate(left.rounds)]:
        if "proxy" in (round_ / "metrics.json").read_text():
            with pytest.raises(ConfigError, match=f"round {number} of .* only trained the proxy"):
                rs.SubsetSampler(left.path, round=number)
            continue
        slices = slices_of(round_)
        sampler = rs.SubsetSampler(str(left.path), round=number)
        for epoch in range(2 * len(slices)):
            sampler.set_epoch(epoch)
            assert sampler.ids.tolist() == slices[epoch % len(slices)]
            assert sorted(sampler) == sorted(sampler.ids)


def test_a_uri_and_a_single_file_give_what_the_folder_does(undisturbed: Made):
    left = undisturbed("adaptive")
    expected = list(rs.SubsetSampler(left.path))
    table = left.rounds[-1] / "selection.parquet"
    for source in (f"file://{left.path}", table, str(table), f"file://{table}"):
        assert list(rs.SubsetSampler(source)) == expected
    assert list(rs.SubsetSampler(f"file://{left.path}", round=0)) == list(
        rs.SubsetSampler(left.path, round=0)
    )


def test_the_folder_of_a_selection_gives_its_ids(undisturbed: Made, tmp_path: Path):
    run, out = undisturbed("glister"), tmp_path / "out"
    code, _ = call(["select", "--local", "--checkpoint", str(run.rounds[1]), "--run-dir", str(out)])
    assert code == 0
    for source in (out, f"file://{out}"):
        assert rs.SubsetSampler(source).ids.tolist() == run.ids[2]
    with pytest.raises(ConfigError, match="has no rounds; leave round=1 out"):
        rs.SubsetSampler(out, round=1)
    pq.write_table(pq.read_table(out / "selection.parquet").slice(1), out / "selection.parquet")
    with pytest.raises(RunFolderError, match=r"not what selection\.json recorded"):
        rs.SubsetSampler(out)


def test_what_export_writes_as_parquet_is_read(undisturbed: Made, tmp_path: Path):
    left = undisturbed("glister")
    file = export(left.path, "parquet", output=str(tmp_path / "ids.parquet"))
    assert rs.SubsetSampler(file).ids.tolist() == left.ids[-1]


def test_weights_come_with_the_ids_of_their_epoch(weighted: Path):
    sampler = rs.SubsetSampler(weighted)
    assert (sampler.ids.tolist(), sampler.weights.tolist()) == ([4, 7, 0], [0.5, 2.5, 4.5])
    sampler.set_epoch(1)
    assert sampler.weights_of([3, 1, 9]).tolist() == [5.5, 1.5, 3.5]


@pytest.mark.parametrize(
    "make",
    [list, tuple, np.array, lambda ids: np.array(ids, dtype=np.uint16), torch.tensor, pa.array],
)
def test_ids_come_in_any_flat_sequence(make: Callable[[list[int]], Any]):
    ids = [5, 0, 3, 60_000]
    sampler = rs.SubsetSampler(make(ids))
    assert sampler.ids.tolist() == ids and sampler.ids.dtype == np.int64
    assert list(sampler) == list(rs.SubsetSampler(ids))


def test_a_selection_and_the_array_that_was_given_may_change_afterwards():
    ids, weights = np.arange(10), np.ones(10, dtype=np.float32)
    selection = rs.Selection(
        ids=ids,
        gains=weights,
        weights=weights,
        labels=ids,
        num_pool=10,
        num_classes=10,
        fraction=1.0,
    )
    samplers = rs.SubsetSampler(ids), rs.SubsetSampler(selection)
    ids[:], weights[:] = 0, 7
    for sampler in samplers:
        assert sorted(sampler) == list(range(10))
        assert sampler.weights.tolist() == [1] * 10


BAD: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, "holds no id; a sampler needs at least one"),
    ([1, 2, -3], {}, "holds id -3; ids are row numbers from 0 on"),
    ([1, 2, 1], {}, "holds id 1 more than once"),
    ([1.0, 2.0], {}, "is list of float64 with shape"),
    ([[1, 2], [3, 4]], {}, r"with shape \(2, 2\)"),
    (["a", "b"], {}, "give a run folder, a selection, or ids"),
    ({1, 2}, {}, "is set of object"),
    (np.array([True, False]), {}, r"is a mask of 2 truth values.*numpy\.flatnonzero"),
    (np.array([2**63], dtype=np.uint64), {}, "is no int64 row number"),
    (7, {}, r"is int of int64 with shape \(\)"),
    (None, {}, "is NoneType of object"),
    ([1, 2], {"round": 3}, "round=3 is of a run folder; list has none"),
    ([1, 5], {"num_examples": 5}, "id 5 of the sequence of ids is no row of a dataset of 5"),
    ([1, 5], {"dataset": "abcde"}, "Give that dataset; or keys= to find rows by name"),
    ([1, 5], {"remainder": "pad"}, "remainder='pad' must be 'drop' or 'keep'"),
    ([1, 5], {"rank": 0}, "rank=0 and world_size=None: give both"),
    ([1, 5], {"world_size": 2}, "rank=None and world_size=2: give both"),
    ([1, 5], {"rank": 2, "world_size": 2}, "rank=2 must lie between 0 and world_size - 1 = 1"),
    ([1, 5], {"rank": 0, "world_size": 0}, "world_size=0 must be 1 or more"),
    ([1, 5], {"keys": ["a"]}, r"the sequence of ids has no keys \(file names\)"),
    ([1, 5], {"keys": 3}, "keys=int has no names of rows"),
    ([1, 5], {"keys": [1, 2]}, "give one string for each row of the dataset"),
    ("nowhere", {}, "nowhere: there is no such folder"),
    ("nowhere.parquet", {}, "there is no such file"),
    ("ftp://host/x", {}, "on no storage that is known here"),
    ("s3://key:secret@bucket/x.parquet", {}, "must hold no credentials"),
]


@pytest.mark.parametrize(("source", "options", "told"), BAD)
def test_what_cannot_be_drawn_from_is_refused_by_a_sentence(
    source: Any, options: dict[str, Any], told: str, monkeypatch: Any, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RaySubsetError, match=told) as caught:
        rs.SubsetSampler(source, **options)
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_dataset_with_just_enough_rows_is_let_pass():
    assert len(rs.SubsetSampler([1, 5], num_examples=6, dataset=range(6))) == 2


def test_folders_that_hold_no_choice_are_refused(undisturbed: Made, tmp_path: Path):
    run = undisturbed("smaller").path
    text = tmp_path / "ids.txt"
    text.write_text("1\n2\n")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"index": [1, 2]}), other)
    uneven = tmp_path / "uneven.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3], "epoch": [0, 0, 1]}), uneven)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(other.read_bytes()[:40])
    for source, told in (
        (text, r"is a file; give .*numpy\.loadtxt"),
        (other, r"no column of row numbers called id \(columns: index\)"),
        (uneven, "has epochs of 1 to 2 ids"),
        (torn, "cannot be read"),
        (tmp_path, "holds no run"),
        (run.parent, f"it holds runs: {run.name}"),
    ):
        with pytest.raises(RunFolderError, match=told):
            rs.SubsetSampler(source)
    with pytest.raises(ConfigError, match="round 9 is not finished; finished rounds: 1 to"):
        rs.SubsetSampler(run, round=9)


def test_a_run_in_progress_gives_what_is_finished_and_only_that(undisturbed: Made, tmp_path: Path):
    left, run = undisturbed("smaller"), tmp_path / "run"
    shutil.copytree(left.path, run)
    proxies = ["proxy" in (round_ / "metrics.json").read_text() for round_ in left.rounds]
    for number in reversed(range(len(left.rounds))):
        (run / "rounds" / f"{number:04d}" / "MANIFEST.json").unlink()
        if number and not proxies[number - 1]:
            assert rs.SubsetSampler(run).ids.tolist() == left.ids[number - 1]
            continue
        told = "only trained the proxy" if number else "it is not finished; .*: none yet"
        with pytest.raises(ConfigError, match=told):
            rs.SubsetSampler(run)


def test_a_round_that_was_changed_is_refused(undisturbed: Made, tmp_path: Path):
    left, run = undisturbed("glister"), tmp_path / "run"
    shutil.copytree(left.path, run)
    table = run / "rounds" / "0001" / "selection.parquet"
    pq.write_table(pq.read_table(table).slice(1), table)
    with pytest.raises(RunFolderError, match=r"not what MANIFEST\.json recorded; put it back"):
        rs.SubsetSampler(run, round=1)
    assert rs.SubsetSampler(run).ids.tolist() == left.ids[-1]
    with pytest.raises(RunFolderError, match=f"file://{table}"):
        rs.SubsetSampler(f"file://{run}", round=1)


@pytest.mark.parametrize("strategy", ON_VALIDATION)
def test_a_control_that_trains_on_validation_rows_is_refused(strategy: str, tmp_path: Path):
    goal = {"selection__goal": "smaller"} if strategy == "random-validation" else {}
    play(prepared(selection__strategy=strategy, **goal), tmp_path / "run")
    with pytest.raises(ConfigError, match=f"is of {strategy}, a control that trains on validation"):
        rs.SubsetSampler(tmp_path / "run")


def test_states_belong_to_a_round(undisturbed: Made):
    run = undisturbed("glister").path
    state = json.loads(json.dumps(rs.SubsetSampler(run, round=1).state_dict()))
    rs.SubsetSampler(run, round=1).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"of a run, round= too"):
        rs.SubsetSampler(run).load_state_dict(state)
