"""Jobs on a real head with dashboard and token: submitted, followed, stopped, killed, resumed."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from jobs.train import main as train_job
from tests.cluster.crews import checkpoints, until
from tests.cluster.heads import WRONG, Head, running_head
from tests.small_runs import Left

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
OPTIONS = (
    "--data digits --data.limit 300 --model.name tests.cluster.marked:marked --fraction 0.3 "
    "--epochs 24 --selection.select_every 12 --training.batch_size 16 --resources.workers 1 "
    "--resources.scorers 1 --resources.checkpoint_every_s 0 --resources.start_timeout_s 240 "
    "--resources.keep_checkpoints 9"
).split()


@pytest.fixture
def marks() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="marks-", dir="/tmp") as folder:
        yield Path(folder)


def submit(head: Head, job: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    wanted = json.dumps({"env_vars": environment})
    command = ["python", "-m", "jobs.train", *OPTIONS, "--run-dir", str(folder)]
    words = ["--submission-id", job, "--working-dir", ".", "--runtime-env-json", wanted]
    return head.job("submit", *words, "--", *command)


def kept(folder: Path) -> int:
    """Return the epochs that are committed or kept."""
    rounds = len(list(folder.glob("rounds/*/MANIFEST.json")))
    try:
        path = folder / f"rounds/{rounds:04d}/partial/MANIFEST.json"
        return 12 * rounds + json.loads(path.read_text())["epochs"]
    except (OSError, ValueError):
        return 12 * rounds


def until_kept(folder: Path, epochs: int, process: subprocess.Popen[str], slow: Path) -> None:
    def there() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the job ended: {process.communicate()[0]}")
        return kept(folder) >= epochs

    until(there, f"{epochs} epochs are kept")
    slow.write_text(
        "2"
    )  # a batch: the next words to `ray job` take seconds, and epochs do not pass


def result_of(told: str) -> dict[str, Any] | None:
    lines = [line for line in told.splitlines() if line.startswith("RESULT ")]
    return json.loads(lines[-1].removeprefix("RESULT ")) if lines else None


def test_a_job_is_stopped_and_killed_on_the_way_and_ends_as_an_undisturbed_run(
    tmp_path: Path, marks: Path
):
    folder = tmp_path / "run"
    slow = marks / "rank0-training-slow"
    slow.write_text("0.1")
    with running_head(
        RAY_JOB_STOP_WAIT_TIME_S="30",
        RAYSUBSET_TEST_MARKS=str(marks),
        RAYSUBSET_TEST_DRIVER="0",
        RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    ) as head:
        code, told = head.said("list", token=WRONG)
        assert code != 0 and "token" in told.lower()

        # Stopped as the head's environment allows: it ends by itself, with its last epoch kept.
        process = submit(head, "stopped", folder)
        until_kept(folder, 14, process, slow)
        code, told = head.said("stop", "stopped")
        assert code == 0, told
        told = process.communicate(timeout=120)[0]
        result = result_of(told)
        assert result is not None, told
        assert (result["outcome"], result["exit_code"]) == ("stopped", 75)
        assert result["run_dir"] == str(folder) and "stopped" in result["error"]
        assert "Traceback" not in told
        before = kept(folder)
        assert 14 <= before < 24

        slow.write_text("0.1")
        # Killed: the same command goes on where it was, and loses no epoch that was kept.
        process = submit(head, "killed", folder, RAY_JOB_STOP_WAIT_TIME_S="0")
        until_kept(folder, before + 1, process, slow)
        assert head.said("stop", "killed")[0] == 0
        told = process.communicate(timeout=120)[0]
        assert result_of(told) is None and "--resume" not in told
        time.sleep(1)  # rank 0 ends with its driver, a moment later
        assert kept(folder) > before

        slow.unlink()
        process = submit(head, "ended", folder)
        told = process.communicate(timeout=240)[0]
        assert process.returncode == 0, told
        info = head.info("ended")
    assert (info["status"], info["exit_code"]) == ("SUCCEEDED", 0)
    result = result_of(info["logs"])
    assert result is not None and result == result_of(told)
    assert (result["outcome"], result["exit_code"]) == ("done", 0)

    assert train_job([*OPTIONS, "--local", "--run-dir", str(tmp_path / "twin")]) == 0
    left, twin = Left(folder), Left(tmp_path / "twin")
    assert (left.ids, left.gains) == (twin.ids, twin.gains)
    assert checkpoints(left) == checkpoints(twin)
    assert left.result == twin.result is not None
    assert result["test_accuracy"] == twin.result["test_accuracy"]
