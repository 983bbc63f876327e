"""Secrets are planted wherever people keep them, everything is run, and every byte is searched."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysubset.cli import call
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment, nest, options
from raysubset.preparation import environment
from raysubset.redaction import redacted
from raysubset.storage import owner
from raysubset.tracking import wandb_run
from tests.buckets import URI, Bucket
from tests.fake_trackers import FakeMlflow, FakeWandb
from tests.tracked_runs import untroubled

SECRET = "h0rse-battery-staple"
VARIABLES = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GOOGLE_API_KEY AZURE_CLIENT_SECRET "
    "AZURE_STORAGE_KEY WANDB_API_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN MLFLOW_TRACKING_USERNAME "
    "MLFLOW_TRACKING_PASSWORD MLFLOW_TRACKING_TOKEN RAY_AUTH_TOKEN RAY_REDIS_PASSWORD "
    "GITHUB_TOKEN DATABRICKS_TOKEN PIP_INDEX_URL https_proxy"
).split()
ADDRESSES = (
    f"s3://AKIA:{SECRET}@bucket/x",
    f"https://me:{SECRET}@host/x",
    f"https://{SECRET}@host/x",
    f"https://host/x?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}",
    f"https://host/x?sig={SECRET}",
    f"https://host/x?access_token={SECRET}",
    f"hf://datasets/x?token={SECRET}",
)
SMALL = (
    "--local --data.limit 200 --model.name mlp --epochs 2 --selection.select_every 1 "
    "--selection.glister.picks blocks(3) --selection.batch_size 32"
).split()
FEW = "--fractions 0.3 --strategies glister --seeds 1 --max-drop none --no-controls".split()
TRACKED = ["--tracking.mlflow", "http://host:5000", "--tracking.wandb", "team/project"]
TEXTS = [name for name, field in options().items() if "str" in str(field.annotation)]


@pytest.fixture
def planted(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[list[Any]]:
    """Plant a secret in every variable; give what trackers are told."""
    untroubled(monkeypatch)
    monkeypatch.setattr(owner, "BEAT_S", 60.0)
    monkeypatch.setattr(wandb_run, "_leave_in_time", lambda: None)
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("RAYSUBSET_LOG", "json")  # every line of the log, on standard error
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    mlflow, wandb = FakeMlflow(), FakeWandb()
    mlflow.install(monkeypatch)
    wandb.install(monkeypatch)
    logger = logging.getLogger("raysubset")
    before = logger.handlers, logger.level, logger.propagate
    yield [mlflow, wandb]
    logger.handlers, logger.level, logger.propagate = before


def assert_nowhere(folder: Path, *texts: object) -> int:
    """Fail where a file below a folder, or a text, holds the secret; return how many were read."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
        assert SECRET not in str(path)
        if path.suffix == ".parquet":  # its bytes are compressed
            assert SECRET not in str(pq.read_table(path).to_pylist()), path
    for text in texts:
        assert SECRET not in str(text)
    return len(files)


def test_f30_no_secret_of_the_environment_is_in_any_artifact_log_report_or_tracker(
    planted: list[Any], bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, frontier = ["run", *SMALL, *TRACKED], ["frontier", *SMALL, *TRACKED, *FEW]
    for words in (
        [*run, "--run-dir", "run"],
        [*run, "--run-dir", "run", "--resume"],
        [*run, "--run-dir", URI],
        [*frontier, "--run-dir", "frontier"],
        ["select", "--local", "--checkpoint", "run", "--run-dir", "chosen"],
        ["report", "run", "frontier", URI],
        ["export", "run", "--format", "csv"],
        ["doctor", "--json", *SMALL[1:]],
    ):
        assert call(words)[0] == 0, (words, capsys.readouterr().err)
    id_ = pq.read_table("run/parts.parquet")["id"][0].as_py()
    assert call(["explain", "run", "--id", str(id_)])[0] == 0
    out, err = capsys.readouterr()
    assert '"logger": "raysubset' in err, "the log was there to be searched"
    mlflow, wandb = planted
    told = [mlflow.runs, wandb.started, wandb.rows, wandb.summaries, wandb.settings]
    assert len(mlflow.runs) == len(wandb.rows) > 3
    assert assert_nowhere(tmp_path, out, err, told) > 100


def test_f30_no_secret_of_the_environment_is_in_what_a_failure_leaves(
    planted: list[Any],
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"no route to {ADDRESSES[0]} or {ADDRESSES[3]}")

    with monkeypatch.context() as patch:
        patch.setattr("raysubset.frontier.trial.run_local", broken)
        assert call(["frontier", *SMALL, *FEW, "--run-dir", "frontier"])[0] == 0
    failed = list(tmp_path.rglob("failed.json"))
    assert len(failed) == 2 and "no route to" in failed[0].read_text()
    for remedy in ("ACCESS_DENIED", "NO_SUCH_BUCKET"):

        def fail(verb: str, name: str, remedy: str = remedy) -> None:
            raise OSError(f"AWS Error {remedy} during PutObject to {ADDRESSES[0]}")

        bucket.meet = fail
        assert call(["run", *SMALL, "--run-dir", URI])[0] == 2
    out, err = capsys.readouterr()
    assert "s3://bucket/run/" in err
    assert_nowhere(tmp_path, out, err)


@pytest.mark.parametrize("address", ADDRESSES)
def test_f30_an_address_with_a_secret_is_refused_by_every_option_and_never_repeated(
    address: str,
    planted: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert {"data.path", "data.validation", "model.name", "tracking.wandb"} <= set(TEXTS)
    for name in TEXTS:
        with pytest.raises(ConfigError) as caught:
            assert not Experiment.of(nest({name: address})), name
        assert SECRET not in str(caught.value), name
    others = ("embeddings", "validation-embeddings", "labels", "head", "checkpoint")
    lines = [["run", *SMALL, f"--{name}", address] for name in TEXTS]
    lines += [["select", "--local", "--embeddings", "x.npz", f"--{o}", address] for o in others]
    lines += [["run", "--local", "--run-dir", address], ["run", address], ["report", address]]
    lines += [["run", "--local", f"--{address}"], [address]]
    lines += [["doctor", "--address", address]] * (address == ADDRESSES[0])
    for words in lines:
        assert call(words)[0] == (1 if words[0] == "doctor" else 2), words
    out, err = capsys.readouterr()
    assert assert_nowhere(tmp_path, out, err) == 0, "nothing was written"


def test_f30_what_is_no_secret_stays_readable():
    for plain in (
        "experiment file a/b.yaml: selection.fraction=30: must lie in (0, 1]",
        "s3://bucket/run?region=eu-west-1 cannot be read",
        "/home/me@corp/data/x.png: row 7",
        "model.name=mynet:build: importing 'mynet' failed",
    ):
        assert redacted(plain) == plain


def test_f30_the_environment_of_a_run_is_an_allow_list(
    planted: list[Any], monkeypatch: pytest.MonkeyPatch
):
    read: list[str] = []
    real = os.environ.get
    monkeypatch.setattr(os.environ, "get", lambda name, *d: read.append(name) or real(name, *d))
    recorded = environment()
    assert set(recorded) == {
        *("versions", "python", "platform", "cpu_count", "memory_bytes", "git", "started"),
    }
    assert set(recorded["versions"]) == {
        *("raysubset", "ray", "torch", "torchvision", "numpy", "pyarrow", "scikit-learn"),
    }
    assert SECRET not in json.dumps(recorded)
    assert not set(read) & set(VARIABLES)
