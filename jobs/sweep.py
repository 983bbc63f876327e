"""A frontier as a Ray job: the options of `raysubset frontier`, and one RESULT line at the end.

ray job submit --working-dir . -- python -m jobs.sweep --run-dir /shared/runs/digits --seeds 5

--run-dir must be absolute, on storage that every node sees. Submitting the same command again runs
only what is missing: --resume is added where the folder holds a frontier.
"""

from __future__ import annotations

import json
import sys

from jobs.train import run_dir_of
from raysubset.cli import call


def main(tokens: list[str]) -> int:
    """Run what is missing, print where the answer lies as JSON, and return the exit code."""
    folder = run_dir_of(tokens)
    if folder is None or not folder.is_absolute():
        print("error: a job needs --run-dir with an absolute path on shared storage.")
        return 2
    if (folder / "frontier.yaml").is_file() and "--resume" not in tokens:
        tokens = [*tokens, "--resume"]
    code, sweep = call(["frontier", *tokens])
    if sweep is not None:
        told = {"run_dir": str(sweep.folder), "answer": str(sweep.folder / "frontier.json")}
        print("RESULT " + json.dumps({**told, "trials": len(sweep.rows())}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
