"""F24: nothing that a run folder holds can make a reader run its code."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysubset.cli import call
from raysubset.errors import RunFolderError
from raysubset.learn.checkpoint import CheckpointRef, read_weights
from raysubset.records import read_observations
from tests.learn.test_checkpoint import Harmful, pickled, torch_file
from tests.verifying.runs import copied, damaged, digest, files_of, reseal

READERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "verify": lambda run, out: ["verify", str(run)],
    "explain": lambda run, out: ["explain", str(run), "--id", "3"],
    "export": lambda run, out: ["export", str(run), "--output", str(out / "ids.txt")],
    "report": lambda run, out: ["report", str(run)],
    "select": lambda run, out: [
        "select",
        "--local",
        "--checkpoint",
        str(run),
        "--run-dir",
        f"{out}/s",
    ],
    "resume": lambda run, out: ["run", "--local", "--resume", "--run-dir", str(run)],
}


def yaml_object(value: Harmful) -> bytes:
    return f"!!python/object/apply:os.mknod ['{value.marker}']\n".encode()


@pytest.mark.parametrize("sealed", [False, True], ids=["as found", "hashes made anew"])
@pytest.mark.parametrize("wrap", [pickled, torch_file, yaml_object])
def test_f24_a_pickle_in_the_place_of_any_file_is_never_run(
    whole: Path, tmp_path: Path, wrap: Callable[[Harmful], bytes], sealed: bool
):
    """Every file at once: whatever a command reads, it reads this."""
    marker = tmp_path / "was-run"
    run = copied(whole, tmp_path / "run")
    manifests = {name for name in files_of(run) if name.endswith("MANIFEST.json")}
    harmless = {*manifests, "experiment.yaml", "fingerprint.json"} if sealed else set[str]()
    for name in set(files_of(run)) - harmless:
        (run / name).write_bytes(wrap(Harmful(marker)))
    if sealed:
        reseal(run)
    for name, words in READERS.items():
        out = tmp_path / name
        out.mkdir()
        code, _ = call(words(copied(run, out / "run"), out))
        assert code in (0, 1, 2), name
        assert not marker.exists(), f"{name} ran it"
    assert len(damaged(run)) > 3


@pytest.mark.parametrize("name", ["trainer.pt", "weights.safetensors"])
def test_f24_a_pickle_that_its_manifest_vouches_for_ends_a_resumed_run_in_a_sentence(
    whole: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    marker, run = tmp_path / "was-run", copied(whole, tmp_path / "run")
    (run / "result.json").unlink()
    (run / "MANIFEST.json").unlink()
    (run / "rounds" / "0002" / "checkpoint" / name).write_bytes(torch_file(Harmful(marker)))
    reseal(run)
    code, _ = call(["run", "--local", "--resume", "--run-dir", str(run)])
    told = capsys.readouterr().err
    assert code == 2 and name in told and "Traceback" not in told
    assert not marker.exists()


def test_the_marker_would_be_there_had_it_run(tmp_path: Path):
    for wrap in (pickled, torch_file):
        assert b"was-run" in wrap(Harmful(tmp_path / "was-run"))
    pickle.loads(pickled(Harmful(tmp_path / "was-run")))
    assert (tmp_path / "was-run").exists()


def header(told: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TRICKS = {
    "no header": b"",
    "a header of 16 exabytes": header(b"{}", size=2**64 - 1),
    "a header longer than the file": header({"w": ONE}, b"\0" * 8, size=10**6),
    "a header that is no JSON": header(b"\x80\x04."),
    "a header that is a list": header([ONE]),
    "offsets before the data": header({"w": ONE | {"data_offsets": [-8, 0]}}, b"\0" * 8),
    "offsets beyond the data": header({"w": ONE | {"data_offsets": [0, 80]}}, b"\0" * 8),
    "offsets turned round": header({"w": ONE | {"data_offsets": [8, 0]}}, b"\0" * 8),
    "two tensors on the same bytes": header({"w": ONE, "v": ONE}, b"\0" * 8),
    "a hole before the data": header({"w": ONE | {"data_offsets": [8, 16]}}, b"\0" * 16),
    "a shape of other bytes": header({"w": ONE | {"shape": [2**40]}}, b"\0" * 8),
    "a shape that overflows": header({"w": ONE | {"shape": [2**33, 2**33]}}, b"\0" * 8),
    "a type of its own": header({"w": ONE | {"dtype": "PICKLE"}}, b"\0" * 8),
    "a name twice": header(
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        b"\0" * 16,
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_f24_a_safetensors_header_that_lies_is_an_error_that_names_the_file(
    tmp_path: Path, trick: str
):
    """Its hash is right: whoever made it made the manifest too."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(TRICKS[trick])
    ref = CheckpointRef(path=str(tmp_path), files={path.name: digest(path)})
    with pytest.raises(RunFolderError, match=r"weights\.safetensors"):
        read_weights(ref)
    with pytest.raises(RunFolderError, match=r"weights\.safetensors"):
        read_observations(path)
