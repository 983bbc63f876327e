"""One selection as a Ray job: the options of `raysubset select`, and one RESULT line at the end.

ray job submit --working-dir . -- python -m jobs.select --run-dir /shared/choices/demo ...

No training: ids, gains and weights from a given checkpoint, or from given embeddings, labels and
head. A selection takes one pass over the pool, so nothing of it is resumed.
"""

from __future__ import annotations

import sys
from typing import Any

from jobs.job import run_job


def main(tokens: list[str]) -> int:
    """Choose, print where the ids lie as JSON, and return the exit code."""
    return run_job(["select", *tokens], _facts, mark="")


def _facts(value: Any) -> dict[str, Any]:
    return dict(value) if value else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
