"""One run as a Ray job: the options of `raysubset run`, and one RESULT line at the end.

ray job submit --working-dir . -- python -m jobs.train --run-dir /shared/runs/demo --fraction 0.1

The driver's folder is deleted after the job, so --run-dir must be absolute, on storage that every
node sees. Submitting the same command again continues the run: --resume is added where it is used.
The exit code is the outcome: 0 done, 2 bad input, 75 terminated (resumable), 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from raysubset.cli import call


def main(tokens: list[str]) -> int:
    """Run, print the result as one line of JSON, and return the exit code."""
    folder = run_dir_of(tokens)
    if folder is None or not folder.is_absolute():
        print("error: a job needs --run-dir with an absolute path on shared storage.")
        return 2
    if (folder / "experiment.yaml").is_file() and "--resume" not in tokens:
        tokens = [*tokens, "--resume"]
    code, value = call(["run", *tokens])
    if value is not None:
        outcome, path = value
        print("RESULT " + json.dumps({**asdict(outcome), "run_dir": str(path)}), flush=True)
    return code


def run_dir_of(tokens: list[str]) -> Path | None:
    """Return the --run-dir among the words, or None."""
    for index, token in enumerate(tokens):
        name, equals, value = token.partition("=")
        if name == "--run-dir":
            value = value if equals else "".join(tokens[index + 1 : index + 2])
            return Path(value) if value else None
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
