"""One run as a Ray job: the options of `raysubset run`, and one RESULT line at the end.

ray job submit --working-dir . -- python -m jobs.train --run-dir /shared/runs/demo --fraction 0.1

The driver's folder is deleted after the job, so --run-dir must be absolute, on storage that every
node sees, or a URI. Submitting the same command again continues the run: --resume is added where
the folder is used. The exit code is the outcome, see `jobs.job`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from jobs.job import run_job


def main(tokens: list[str]) -> int:
    """Run or go on, print the result as one line of JSON, and return the exit code."""
    return run_job(["run", *tokens], _facts, mark="experiment.yaml")


def _facts(value: tuple[Any, Any]) -> dict[str, Any]:
    outcome, folder = value
    return {"run_dir": str(folder), **asdict(outcome)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
