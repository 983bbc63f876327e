"""A pool several times larger than the object store and than what the driver may hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_pool_beyond_the_object_store_and_memory_gives_the_ids_of_one_process():
    sizes = "--pool-mb 320 --store-mb 80 --memory-mb 40 --case crew:glister"
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.large_pool", *sizes.split()],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["same_ids"] and told["pool_mb"] >= 4 * told["store_mb"] - 1
