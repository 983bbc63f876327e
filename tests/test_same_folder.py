"""F34: two runs of one seed leave the same folder but for times, whoever scores in which order."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.soaks.folders import MANIFEST, MAY_DIFFER, REPORTS, differences, masked
from raysubset.errors import Stopped
from raysubset.report.pictures import pictures_of
from raysubset.report.run_report import write_report
from tests.small_runs import RUNS, Left, Watcher, play, prepared

OVERLAPPED = {**RUNS["glister"], "selection__overlap": True}


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))


@pytest.mark.parametrize("name", [*RUNS, "overlapped"])
def test_f34_two_runs_of_one_seed_leave_the_same_folder_but_for_times(name: str, tmp_path: Path):
    options = RUNS.get(name, OVERLAPPED)
    for run in ("a", "b"):
        play(prepared(**options), tmp_path / run)
    assert differences(tmp_path / "a", tmp_path / "b") == []
    kept = masked(tmp_path / "a")
    rounds = len(Left(tmp_path / "a").rounds)
    assert sum(name.endswith(MANIFEST) for name in kept) == rounds + 1  # and the run's own
    assert {"experiment.yaml", "fingerprint.json", "parts.parquet", "result.json"} <= kept.keys()
    assert sum("/checkpoint/" in name for name in kept) >= 2


def test_f34_a_run_that_was_stopped_and_went_on_leaves_the_same_folder(tmp_path: Path):
    def stop(now: int, name: str) -> None:
        if name == "training" and watch.names.count("done") == 2:
            raise Stopped("two rounds are enough")

    watch, ready = Watcher(stop), prepared(**RUNS["glister"])
    with pytest.raises(Stopped):
        play(ready, tmp_path / "run", watch=watch)
    play(ready, tmp_path / "run", resume=True)
    play(ready, tmp_path / "whole")
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_f34_a_report_says_nothing_that_its_folder_does_not(
    undisturbed: Callable[[str], Left], tmp_path: Path
):
    """Drawn where the other lay, out of the other's times, it is the other's to the byte."""
    first, place = undisturbed("glister").path, tmp_path / "run"
    pictures = pictures_of(prepared(**RUNS["glister"]).problem.parts.pool)

    def drawn(folder: Path) -> dict[str, bytes]:
        write_report(folder, pictures)
        found = [path for pattern in REPORTS for path in folder.glob(pattern)]
        reports = {str(path.relative_to(folder)): path.read_bytes() for path in found}
        shutil.rmtree(folder)
        return reports

    mine = drawn(copied(first, place))
    play(prepared(**RUNS["glister"]), place)
    for pattern in MAY_DIFFER.keys() - {*REPORTS, ".lock", "tensorboard/*"}:
        for path in first.glob(pattern):
            shutil.copy(path, place / path.relative_to(first))
    other = drawn(place)
    assert len(mine) > 4
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name] != other[name]] == []


@pytest.mark.parametrize(
    "name",
    [
        "experiment.yaml",
        "fingerprint.json",
        "parts.parquet",
        "history.jsonl",
        "result.json",
        "rounds/0001/selection.parquet",
        "rounds/0001/metrics.json",
        "rounds/0002/checkpoint/weights.safetensors",
        "rounds/0002/checkpoint/trainer.pt",
        "rounds/0002/observations.safetensors",
    ],
)
def test_f34_one_changed_digit_or_byte_anywhere_is_seen(
    name: str, undisturbed: Callable[[str], Left], tmp_path: Path
):
    first = undisturbed("glister").path
    other = copied(first, tmp_path / "other")
    assert differences(first, other) == []
    path = other / name
    content = bytearray(path.read_bytes())
    digit = re.search(rb'_loss": \d\.(\d)', content)
    content[digit.start(1) if digit else len(content) // 2] ^= 1  # 4 becomes 5, A becomes @
    path.write_bytes(content)
    if name != "history.jsonl":
        with pytest.raises(ValueError, match=f"{name} is not what .*MANIFEST.json recorded"):
            differences(first, other)
    else:
        told = differences(first, other)
        assert len(told) == 1 and told[0].startswith(f"{name}: ")


def test_f34_what_is_masked_is_times_alone(undisturbed: Callable[[str], Left], tmp_path: Path):
    first = undisturbed("glister").path
    other = copied(first, tmp_path / "other")
    lines = [json.loads(line) for line in (other / "history.jsonl").read_text().splitlines()]
    lines[-1]["seconds_training"] += 1
    (other / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert differences(first, other) == []
    lines[-1]["validation_loss"] *= 1 + 1e-15
    lines[-1]["visits"] += 1
    (other / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [told.partition(":")[0] for told in differences(first, other)] == ["history.jsonl"]


def test_f34_a_file_too_many_is_seen(undisturbed: Callable[[str], Left], tmp_path: Path):
    first = undisturbed("glister").path
    other = copied(first, tmp_path / "other")
    (other / "rounds" / "0001" / ".selection.parquet.x1").touch()
    told = differences(first, other)
    assert told == [f"rounds/0001/.selection.parquet.x1 lies in {other} only"]
