"""`raysubset select` as a person and a job call it, in one process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from jobs.select import main
from raysubset.cli import call
from raysubset.learn.checkpoint import WEIGHTS, file_hash
from raysubset.records import read_table
from raysubset.selecting import here
from raysubset.storage import Remote, owner
from tests.selecting.points import write
from tests.small_runs import BLOCKS, Left, play, prepared

N, H, C = 90, 6, 3


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**BLOCKS), tmp_path_factory.mktemp("point") / "run")[1]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """A person's files: embeddings with keys, and a head."""
    draw = np.random.default_rng(1)
    arrays = {"embeddings": draw.normal(size=(N, H)), "labels": np.arange(N) % C}
    keys = np.array([f"img-{i}.png" for i in range(N)])
    head = {"weight": draw.normal(size=(C, H)), "bias": np.zeros(C)}
    return {
        "--embeddings": write(tmp_path / "e.npz", arrays | {"keys": keys}),
        "--head": write(tmp_path / "head.safetensors", head),
    }


def words(options: dict[str, str], *more: str) -> list[str]:
    return ["select", "--local", *(word for pair in options.items() for word in pair), *more]


def test_a_runs_round_gives_what_the_run_chose_next(left: Left, tmp_path: Path):
    out = tmp_path / "out"
    code, value = call(words({"--checkpoint": str(left.rounds[1]), "--run-dir": str(out)}))
    assert code == 0
    table = read_table(out / "selection.parquet")
    assert table.column_names == ["rank", "id", "label", "gain", "weight", "key"]
    assert table["id"].to_pylist() == left.ids[2]
    assert repr(table["gain"].to_pylist()) == left.gains[2]
    assert (out / "ids.txt").read_text().split() == [str(i) for i in left.ids[2]]
    assert value["budget"] == table.num_rows == sum(value["counts"].values())
    assert json.loads(json.dumps(value))["run_dir"] == str(out)


def test_the_weights_file_alone_with_the_options_of_the_run_chooses_alike(
    left: Left, tmp_path: Path
):
    stored = str(left.rounds[0].parents[1] / "experiment.yaml")
    weights = load_file(left.rounds[1] / "checkpoint" / WEIGHTS)
    save_file({f"module.{n}": t for n, t in weights.items()}, tmp_path / "ddp.safetensors")
    given = {"--checkpoint": str(tmp_path / "ddp.safetensors"), "--run-dir": str(tmp_path / "out")}
    code, value = call(["select", stored, *words(given)[1:]])
    assert code == 0
    table = read_table(Path(value["selection"]))
    # Exact picks and blocks draw nothing by round or epoch, so the weights say it all.
    assert table["id"].to_pylist() == left.ids[2]


def test_the_record_names_every_input_and_output_by_its_hash(own: Any, tmp_path: Path):
    out = tmp_path / "out"
    code, value = call(words(own, "--run-dir", str(out), "--format", "csv", "--fraction", "0.2"))
    assert code == 0
    record = json.loads((out / "selection.json").read_text())
    for each in record["inputs"]:
        assert each["what"] == "data" or each["sha256"] == file_hash(each["path"])
    assert {"embeddings", "head", "data"} == {each["what"] for each in record["inputs"]}
    assert record["files"] == {n: file_hash(out / n) for n in ("selection.parquet", "ids.csv")}
    assert record["result"]["budget"] == value["budget"] == 16  # floor(0.2 * 81)
    assert set(record["experiment"]) == {"selection", "resources", "seed"}
    assert any("float64" in note for note in record["notes"])


def test_keys_lead_back_to_the_persons_own_rows(own: Any, tmp_path: Path):
    code, value = call(words(own, "--run-dir", str(tmp_path / "out"), "--format", "json"))
    assert code == 0
    table = read_table(Path(value["selection"]))
    assert table["key"].to_pylist() == [f"img-{i}.png" for i in table["id"].to_pylist()]
    assert json.loads(Path(value["ids"]).read_text()) == {
        "ids": table["id"].to_pylist(),
        "keys": table["key"].to_pylist(),
    }


def test_random_needs_no_head_and_fit_makes_one(own: Any, tmp_path: Path):
    alone = {"--embeddings": own["--embeddings"]}
    random = words(alone, "--strategy", "random", "--run-dir", str(tmp_path / "random"))
    code, value = call(random)
    assert code == 0 and value["examples_scored"] == 0 and value["share_of_optimum"] is None
    code, value = call(words(alone, "--head", "fit", "--run-dir", str(tmp_path / "fit")))
    assert code == 0 and value["examples_scored"] == N


REFUSED: list[tuple[str, str]] = [
    ("", "give --checkpoint"),
    ("--head head.npz", "only with --embeddings"),
    ("--embeddings E --checkpoint C", "two ways"),
    ("--embeddings E", "--head fit"),
    ("--embeddings E --head fit --data.path x", "--data.path"),
    ("--embeddings E --head fit --data.validation 0.2 --data.limit 9", "error: --data.limit:"),
    ("--embeddings E --head fit --validation-labels E", "only with --validation-embeddings"),
    ("--embeddings= --head fit", "--embeddings has no value"),
    ("--checkpoint=", "--checkpoint has no value"),
    ("--checkpoint s3://me:secret@bucket/runs/x", "must hold no credentials"),
    ("--checkpoint file:///nowhere/w.safetensors", "file:///nowhere/w.safetensors: there is no"),
    ("--checkpoint file:///nowhere/run", "file:///nowhere/run holds no run"),
    ("--checkpoint UC/rounds/0000", "UC keeps no weights of round 0"),
    ("--embeddings E --head fit --model.name mlp", "--model.name"),
    ("--embeddings E --head none.npz", "there is no such file"),
    ("--checkpoint C --epochs 3", "--training.epochs: select trains nothing"),
    ("--checkpoint C --selection.select_every 3", "--selection.select_every"),
    ("--checkpoint C --strategy adaptive-random", "adaptive-random is a way to train"),
    ("--checkpoint C --strategy full", "full is a way to train"),
    ("--checkpoint C --seed 5", "run on other rows"),
    ("--checkpoint C --model.name convnet", "does not fit the model"),
    ("--checkpoint C/rounds/0000", "keeps no weights of round 0"),
    ("--checkpoint C/rounds/0077", "keeps no weights of round 77"),
    ("--checkpoint C/rounds", "holds no run"),
    ("--checkpoint C/nowhere", "no such file or folder"),
    ("--checkpoint C --fraction 20", "did you mean 0.2"),
    ("--checkpoint C --run-dir C", "is used"),
    ("--chekpoint C", "did you mean --checkpoint"),
]


@pytest.mark.parametrize(("line", "why"), REFUSED, ids=[line for line, _ in REFUSED])
def test_bad_input_is_refused_before_any_work(
    left: Left, own: Any, tmp_path: Path, capsys: Any, line: str, why: str
):
    run, out = str(left.rounds[0].parents[1]), tmp_path / "out"
    options = [own["--embeddings"] if w == "E" else w for w in line.split()]
    options = [run + w[1:] if w == "C" or w.startswith("C/") else w for w in options]
    uri = left.rounds[0].parents[1].as_uri()
    options, why = [w.replace("UC", uri) for w in options], why.replace("UC", uri)
    if "--run-dir" not in options:
        options += ["--run-dir", str(out)]
    code, value = call(["select", "--local", *options])
    assert (code, value) == (2, None)
    assert why in capsys.readouterr().err
    assert not out.exists()


def test_the_data_options_that_decide_of_embeddings_are_taken(own: Any, tmp_path: Path):
    code, value = call(words(own, "--data.validation", "0.5", "--run-dir", str(tmp_path / "out")))
    assert code == 0 and value["num_validation"] == N // 2


def test_logits_beyond_float32_are_told_of_what_was_given(own: Any, tmp_path: Path, capsys: Any):
    huge = {"embeddings": np.full((N, H), 1e30), "labels": np.arange(N) % C}
    head = {"weight": np.full((C, H), 1e20), "bias": np.zeros(C)}
    own["--embeddings"] = write(tmp_path / "huge.npz", huge)
    own["--head"] = write(tmp_path / "head.npz", head)
    assert call(words(own, "--run-dir", str(tmp_path / "out")))[0] == 2
    told = capsys.readouterr().err
    assert "Scale the embeddings" in told and "--training" not in told
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_of_a_run_is_refused(tmp_path: Path, capsys: Any):
    _, left = play(prepared(**BLOCKS), tmp_path / "run")
    path = left.rounds[-1] / "checkpoint" / WEIGHTS
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    given = {"--checkpoint": str(tmp_path / "run"), "--run-dir": str(tmp_path / "out")}
    assert call(words(given))[0] == 2
    assert "not what its manifest recorded" in capsys.readouterr().err
    (left.rounds[1] / "metrics.json").write_text("{}")
    assert call(words(given | {"--checkpoint": str(left.rounds[1])}))[0] == 2


def test_a_scheduler_that_ends_it_finds_nothing_half_made(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    def terminated(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("raysubset.selecting.here.select_here", terminated)
    before = signal.getsignal(signal.SIGTERM)
    code, _ = call(words(own, "--run-dir", str(tmp_path / "out")))
    assert code == 75 and signal.getsignal(signal.SIGTERM) is before
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_behind_a_uri_holds_what_a_local_one_does(own: Any, tmp_path: Path):
    code, here = call(words(own, "--run-dir", str(tmp_path / "here")))
    assert code == 0
    uri = (tmp_path / "store" / "there").as_uri()
    code, there = call(words(own, "--run-dir", uri))
    assert code == 0 and there["run_dir"] == uri and there["ids"] == f"{uri}/ids.txt"
    for name in ("selection.parquet", "ids.txt"):
        stored = tmp_path / "store" / "there" / name
        assert stored.read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert (tmp_path / "store" / "there" / "selection.json").is_file()
    assert call(words(own, "--run-dir", uri))[0] == 2  # used
    assert here["counts"] == there["counts"]


def test_a_checkpoint_behind_a_uri_chooses_what_a_local_one_does(left: Left, tmp_path: Path):
    stored = str(left.rounds[0].parents[1] / "experiment.yaml")
    round_ = left.rounds[1]
    places = {
        "round": ([], round_, round_.as_uri()),
        "run": ([], left.path, left.path.as_uri() + "/"),
        "file": ([stored], round_ / "checkpoint" / WEIGHTS, None),
    }
    for name, (file, path, uri) in places.items():
        chosen = list[Any]()
        for where in (str(path), uri or path.as_uri()):
            given = {"--checkpoint": where, "--run-dir": str(tmp_path / f"{name}{len(chosen)}")}
            code, value = call(["select", *file, *words(given)[1:]])
            assert code == 0
            (read,) = [
                each
                for each in json.loads((Path(value["run_dir"]) / "selection.json").read_text())[
                    "inputs"
                ]
                if each["what"] == "checkpoint"
            ]
            assert read["path"] == where.rstrip("/").removesuffix("/rounds/0001")
            chosen.append((read_table(Path(value["selection"])), read["sha256"]))
        assert chosen[0] == chosen[1]


def test_f26_of_two_selections_into_one_folder_the_later_is_refused(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """Behind a URI before its work, by the owner's name; into a path once it would write."""
    select = here.select_here

    def other(*given: Any) -> Any:
        monkeypatch.setattr(here, "select_here", select)
        codes.append(call(words(own, "--run-dir", place))[0])
        return select(*given)

    for place, why in (
        ((tmp_path / "store" / "x").as_uri(), f"in use by process {os.getpid()} on"),
        (str(tmp_path / "plain"), "is used"),
    ):
        codes = list[int]()
        monkeypatch.setattr(here, "select_here", other)
        codes.append(call(words(own, "--run-dir", place))[0])
        assert sorted(codes) == [0, 2]
        assert why in capsys.readouterr().err
        assert call(words(own, "--run-dir", place))[0] == 2  # whole, and used
        capsys.readouterr()


def test_f26_a_selection_is_refused_where_another_machine_owns_the_folder(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setattr(owner, "BEAT_S", 0.02)
    (tmp_path / "lock").touch()
    uri = (tmp_path / "store" / "x").as_uri()
    there = owner.Owner(Remote(uri), tmp_path / "lock")
    assert call(words(own, "--run-dir", uri))[0] == 2
    assert f"in use by process {os.getpid()} on" in capsys.readouterr().err
    there.release()
    assert call(words(own, "--run-dir", uri))[0] == 0


def test_a_job_ends_with_what_was_chosen(own: Any, tmp_path: Path, capsys: Any):
    assert main(words(own, "--run-dir", str(tmp_path / "out"))[1:]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert result["outcome"] == "done" and result["run_dir"] == str(tmp_path / "out")
    assert Path(result["ids"]).read_text().count("\n") == sum(result["counts"].values())
    assert main(words(own, "--run-dir", str(tmp_path / "out"))[1:]) == 2  # used


def test_without_a_folder_each_call_gets_a_new_one(
    own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folders = [call(words(own))[1]["run_dir"] for _ in range(2)]
    assert len(set(folders)) == 2
    assert all(Path(f).parent == tmp_path / "runs" for f in folders)


def test_the_choice_is_that_of_cords_on_real_features(parity: Path, tmp_path: Path):
    with np.load(parity / "inputs_5000.npz") as arrays:
        given = dict(arrays)
    with np.load(parity / "picks_5000.npz") as arrays:
        cords = arrays["last_layer_block33"]
    files = {
        "--embeddings": {"embeddings": given["embedding_train"], "labels": given["label_train"]},
        "--validation-embeddings": {
            "embeddings": given["embedding_val"],
            "labels": given["label_val"],
        },
        "--head": {"weight": given["head_weight"], "bias": given["head_bias"]},
    }
    options = {o: write(tmp_path / f"{o}.npz", arrays) for o, arrays in files.items()}
    options |= {
        "--selection.glister.step": "sum",
        "--selection.glister.step_size": repr(float(given["step_size"])),
        "--selection.glister.picks": "block(33)",
        "--selection.balance": "none",
        "--fraction": "0.1",
        "--run-dir": str(tmp_path / "out"),
    }
    code, value = call(words(options))
    assert code == 0
    chosen = read_table(Path(value["selection"]))["id"].to_numpy()
    np.testing.assert_array_equal(chosen, cords[:500])


def test_other_selection_options_than_the_runs_own_win(left: Left, tmp_path: Path):
    given = {"--checkpoint": str(left.rounds[1]), "--run-dir": str(tmp_path / "out")}
    code, value = call(words(given, "--fraction", "0.5", "--selection.balance", "none"))
    assert code == 0 and value["budget"] == value["num_pool"] // 2
    ids = read_table(Path(value["selection"]))["id"].to_pylist()
    assert ids[: len(left.ids[2])] != left.ids[2]
