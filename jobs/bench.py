"""What raysubset costs on this cluster, or in one process: ratios measured side by side.

ray job submit --working-dir . -- python -m jobs.bench --output /shared/bench.json
python -m jobs.bench --local --cases scoring,training --output bench.json

scikit-learn's digits unless --data names other data. Prints a table as it goes and one RESULT
line at the end; writes all of it as JSON where --output says, after every case. A case that fails
is told and the others go on. Exit codes as in `jobs.job`; 1, or 2 for bad input, if a case failed.

On a machine that is lent, with PyTorch but neither Ray nor an index: CONTRIBUTING.md, "A GPU".
"""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from jobs.bench_table import rows_of, summary
from jobs.job import close_job, guarded
from jobs.machine import check_packages, load, machine, remedy_for
from raysubset.errors import ConfigError, RaySubsetError, Stopped
from raysubset.files import write_json

LEAST = 5
BUILT_IN_DATA = ("digits", "cifar10")


def main(words: list[str]) -> int:
    """Measure, print the table, write the JSON, and return the exit code."""
    try:
        given = _arguments().parse_args(words)
    except SystemExit as error:  # argparse has printed why
        return close_job(int(error.code or 0), "wrong usage", {})
    bench = _Bench(shlex.join(["python", "-m", "jobs.bench", *words]))
    code, told, _ = guarded(lambda: bench.run(given))
    code, told = (code, told) if code else bench.ended()
    return close_job(code, told, {"output": bench.output and str(bench.output), **bench.found})


class _Bench:
    """The cases asked for, one after the other, and what they found so far."""

    def __init__(self, command: str) -> None:
        self.output: Path | None = None
        self.found: dict[str, Any] = {"command": command}
        self.failures: list[int] = []

    def run(self, given: argparse.Namespace) -> None:
        """Check what was asked for, then measure; a failure is told, and the next case runs."""
        cases, asked = _checked(given)
        self.output = Path(given.output).absolute() if given.output else None
        self.found |= {"machine": machine(), "options": dict(asked.options), "cases": {}}
        for what in ("machine", "options"):
            print(
                f"{what}: " + ", ".join(f"{k} {v}" for k, v in self.found[what].items()), flush=True
            )
        for name, case in cases.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            start = perf_counter()
            one = self._measured(case, asked)
            one |= {"took_s": perf_counter() - start, "load": load()}
            self.found["cases"][name] = one
            print("\n".join(rows_of(name, one)), flush=True)
            if self.output:
                write_json(self.output, self.found)

    def ended(self) -> tuple[int, str]:
        """Return the exit code of what ran to its end, and what went wrong."""
        print(told := summary(self.found["cases"]), flush=True)
        return (1 if set(self.failures) - {2} else max(self.failures, default=0)), told

    def _measured(self, case: Any, asked: Any) -> dict[str, Any]:
        """Return what a case found, as plain data; "error" or "skipped" where it found nothing."""
        try:
            measured = case(asked)
        except Stopped:
            raise
        except ModuleNotFoundError as error:
            return self._failed(remedy_for(error), 2)
        except RaySubsetError as error:
            return self._failed(str(error), error.exit_code)
        except Exception as error:  # whatever it is, the other cases' figures are not lost
            traceback.print_exc()
            return self._failed(f"{type(error).__name__}: {error}", 1)
        return asdict(measured) if measured else {"skipped": "it needs Ray (leave out --local)"}

    def _failed(self, told: str, code: int) -> dict[str, Any]:
        self.failures.append(code)
        return {"error": told}


def _checked(given: argparse.Namespace) -> tuple[Mapping[str, Any], Any]:
    """Return the cases and what they are asked; what cannot be is named before any work."""
    check_packages(local=given.local, digits=given.data in (None, "digits"))
    from jobs.benches import CASES

    names = given.cases.split(",") if given.cases else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise ConfigError(
            f"--cases {','.join(unknown)}: no such case; there are {', '.join(CASES)}"
        )
    if given.repeats < LEAST:
        raise ConfigError(f"--repeats {given.repeats}: at least {LEAST}, because medians are told")
    for option in ("output", "features"):
        path = getattr(given, option)
        if path and not Path(path).absolute().parent.is_dir():
            raise ConfigError(f"--{option} {path}: there is no folder {Path(path).parent}")
    asked = _asked(given)
    asked.prepared()
    return {name: CASES[name] for name in names}, asked


def _asked(given: argparse.Namespace) -> Any:
    """Return what the cases are given; built-in data has a name, any other a path."""
    from jobs.benches.measuring import Asked

    data = given.data or "digits"
    options = {"data.format" if data in BUILT_IN_DATA else "data.path": data}
    options |= {"model.name": given.model} if given.model else {}
    options |= {"data.limit": given.limit} if given.limit else {}
    return Asked(
        options=options,
        repeats=given.repeats,
        local=given.local,
        features=given.features,
        big=given.big,
    )


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cases", help=f"some of: {_known()} (default: all)")
    parser.add_argument("--local", action="store_true", help="this process, without Ray")
    parser.add_argument("--data", help="your own: a Parquet file or folder, images or CSV")
    parser.add_argument("--limit", type=int, help="at most this many train rows, and test rows")
    parser.add_argument("--model", help="as --model.name (default: convnet; in rounds: resnet18)")
    parser.add_argument("--features", help="an .npz that keeps a trained network's features")
    parser.add_argument("--big", action="store_true", help="more: gigabytes of disk, minutes")
    parser.add_argument("--repeats", type=int, default=LEAST, help=f"default and least: {LEAST}")
    parser.add_argument("--output", help="where the figures go as JSON")
    return parser


def _known() -> str:
    """Return every case with the first sentence of its docstring."""
    try:
        from jobs.benches import CASES
    except ModuleNotFoundError as error:  # the help is there all the same
        return f"what can be told once {error.name} is installed"
    told = (f"{name} ({(case.__doc__ or '').split('.')[0]})" for name, case in CASES.items())
    return ", ".join(told).replace("%", "%%")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
