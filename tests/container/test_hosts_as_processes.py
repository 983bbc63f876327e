"""A job's hosts as processes of this machine, with the variables and folders of a platform."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from sklearn.datasets import load_iris

from jobs.container.platform_job import read_job
from jobs.container.ray_node import token_of
from raysubset.experiment import Experiment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300
HOSTS = ["127.0.0.1", "localhost"]  # two names of this machine, in their order
STARTED: list[subprocess.Popen[str]] = []  # none outlives its test


@pytest.fixture
def platform() -> Generator[Path]:
    """A platform's root folder with three channels; short, for a socket's path has 107 bytes."""
    root = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    feature_ND, label_N = load_iris(return_X_y=True)
    for part, rows in (("train", range(0, 3)), ("validation", [3]), ("test", [4])):
        ids = [n for n in range(150) if n % 5 in rows]
        folder = root / "input" / "data" / part
        folder.mkdir(parents=True)
        with open(folder / "rows.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "d", "label"])
            writer.writerows([*feature_ND[n], f"kind {label_N[n]}"] for n in ids)
    yield root
    for process in STARTED:
        end(process)
    STARTED.clear()
    shutil.rmtree(root)


def environ(root: Path, hyperparameters: str, **more: str) -> dict[str, str]:
    """Return the variables of a host."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SM_", "RAY_"))}
    own = {
        "SAGEMAKER_BASE_DIR": str(root),
        "RAY_TMPDIR": str(root),
        "RAYSUBSET_RAY_START": "--num-cpus=1 --object-store-memory=100000000",
        "SM_HPS": hyperparameters,
        "SM_NUM_GPUS": "0",
    }
    return {**kept, **own, **more}


def host(variables: dict[str, str], log: Path) -> subprocess.Popen[str]:
    """Start a host the way that an image does; `log` takes its errors."""
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.container.train", "train"],
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    STARTED.append(process)
    return process


def end(process: subprocess.Popen[str]) -> None:
    """End a process, in good order where it still can: its Ray ends with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.stdout is not None
    process.stdout.close()


def two_hosts(root: Path, hyperparameters: str) -> list[subprocess.Popen[str]]:
    """Start both hosts of a job; the second one has an output folder of its own."""
    port = free_ports(3)
    words = " --num-cpus=1 --object-store-memory=100000000 --dashboard-agent-listen-port=0"
    words += " --include-log-monitor=false"  # which only brings workers' lines to a screen
    shared = {
        "SM_HOSTS": '["localhost", "127.0.0.1"]',
        "TRAINING_JOB_NAME": "job-1",
        "RAYSUBSET_RAY_PORT": str(port),
    }
    own = [
        {"RAYSUBSET_RAY_START": f"--ray-client-server-port={port + 2}{words}"},
        {"RAYSUBSET_RAY_START": words, "SM_OUTPUT_DIR": str(root / "second")},
    ]
    return [
        host(
            environ(root, hyperparameters, SM_CURRENT_HOST=name, **shared, **more),
            root / f"{name}.log",
        )
        for name, more in zip(HOSTS, own, strict=True)
    ]


def free_ports(count: int) -> int:
    """Return the first of some free ports in a row; other tests beside us begin elsewhere."""
    for first in range(20_100 + 10 * (os.getpid() % 500), 30_000, 10):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process; return its exit code and what else it printed."""
    printed, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, printed


def rounds(printed: str) -> list[int]:
    """Return the rounds that have a line."""
    return [int(number) for number in re.findall(r"^round=(\d+) ", printed, flags=re.M)]


def assert_results(root: Path, workers: int) -> None:
    """Fail unless everything lies where a platform takes it from."""
    model, output = root / "model", root / "output" / "data"
    assert load_file(model / "weights.safetensors")
    told = Experiment.read(model / "experiment.yaml")
    assert told["selection"]["fraction"] == 0.25 and told["resources"]["workers"] == workers
    assert told["data"]["test"] == str(root / "input" / "data" / "test")
    with open(model / "ids.csv") as file:
        chosen = [int(row["id"]) for row in csv.DictReader(file)]
    assert len(set(chosen)) == len(chosen) == int(0.25 * 90)
    names = ("report.html", "report.md", "result.json", "history.jsonl", "plots")
    assert all((output / name).exists() for name in names)
    assert not (root / "output" / "failure").exists()


@pytest.mark.ray
@pytest.mark.long
def test_one_host_stopped_by_the_platform_goes_on_when_it_is_started_again(platform: Path) -> None:
    words = (
        '{"fraction": "0.25", "epochs": 9, "select_every": 1, "batch_size": "8", '
        '"resources.scorers": 1}'
    )
    first = host(environ(platform, words), platform / "first.log")
    assert first.stdout is not None
    before = ""
    while "round=1 " not in before:  # round 0 is committed when the next one trains
        before += (line := first.stdout.readline())
        assert line, (platform / "first.log").read_text()
    first.send_signal(signal.SIGTERM)
    code, printed = ended(first)
    assert code == 75, printed
    assert not (platform / "output" / "failure").exists() and not (platform / "model").exists()

    code, after = ended(host(environ(platform, words), platform / "second.log"))
    assert code == 0, (platform / "second.log").read_text()
    assert "the run goes on in" in after and 0 not in rounds(after)
    assert sorted({*rounds(before + printed), *rounds(after)}) == list(range(9))
    assert re.search(r"^finished=1 .*\btest_accuracy=0\.\d+", after, flags=re.M)
    assert_results(platform, workers=1)


@pytest.mark.ray
@pytest.mark.long
def test_two_hosts_run_one_experiment_and_end_together(platform: Path) -> None:
    words = '{"fraction": 0.25, "epochs": 4, "select_every": "2", "batch_size": 8}'
    first, second = two_hosts(platform, words)
    code, printed = ended(first)
    assert code == 0, (platform / f"{HOSTS[0]}.log").read_text()
    assert rounds(printed) == [0, 1] and "2 ranks" in printed
    code, silent = ended(second)
    assert code == 0, (platform / f"{HOSTS[1]}.log").read_text()
    assert rounds(silent) == [] and not (platform / "second" / "failure").exists()
    assert_results(platform, workers=2)
    kept = [p for name in ("model", "output", "checkpoints") for p in (platform / name).rglob("*")]
    token = derived_token(platform, words).encode()
    assert not any(token in path.read_bytes() for path in kept if path.is_file())


def test_hosts_of_a_job_that_cannot_begin_end_with_it_and_say_why(platform: Path) -> None:
    (platform / "input" / "data" / "train" / "rows.csv").unlink()
    first, second = two_hosts(platform, '{"fraction": 0.25}')
    assert (ended(first)[0], ended(second)[0]) == (2, 2)
    assert str(platform) in (platform / "output" / "failure").read_text()
    assert "exit code 2" in (platform / "second" / "failure").read_text()
    assert "Traceback" not in (platform / f"{HOSTS[0]}.log").read_text()
    assert not (platform / "checkpoints").exists()


def derived_token(root: Path, hyperparameters: str) -> str:
    """Return the token that the two hosts shared."""
    told = {"TRAINING_JOB_NAME": "job-1", "SM_HOSTS": '["localhost", "127.0.0.1"]'}
    return token_of(read_job(environ(root, hyperparameters, **told)), {})[0]
