"""A frontier as a Ray job: the options of `raysubset frontier`, and one RESULT line at the end.

ray job submit --working-dir . -- python -m jobs.sweep --run-dir /shared/runs/digits --seeds 5

--run-dir must be absolute, on storage that every node sees, or a URI. Submitting the same command
again runs only what is missing: --resume is added where the folder holds a frontier.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from jobs.job import run_job


def main(tokens: list[str]) -> int:
    """Run what is missing, print where the answer lies as JSON, and return the exit code."""
    return run_job(["frontier", *tokens], _facts, mark="frontier.yaml")


def _facts(answered: Any) -> dict[str, Any]:
    return asdict(answered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
