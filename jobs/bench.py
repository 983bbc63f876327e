"""What raysubset costs on this cluster, or in one process: ratios measured side by side.

ray job submit --working-dir . -- python -m jobs.bench --output /shared/bench.json
python -m jobs.bench --local --cases scoring,training --output bench.json

scikit-learn's digits unless --data names other data. Prints a table and one RESULT line; writes
all of it as JSON where --output says. Exit codes as in `jobs.job`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.benches import CASES
from jobs.benches.measuring import LEAST, Asked
from jobs.job import close_job, guarded
from raysubset.errors import ConfigError
from raysubset.files import write_json


def main(words: list[str]) -> int:
    """Measure, print the table, write the JSON, and return the exit code."""
    try:
        given = _arguments().parse_args(words)
    except SystemExit as error:  # argparse has printed why
        return close_job(int(error.code or 0), "wrong usage", {})
    code, told, found = guarded(lambda: _measure(given))
    return close_job(code, told, found or {})


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    names = given.cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise ConfigError(
            f"--cases {','.join(unknown)}: no such case; there are {', '.join(CASES)}"
        )
    if given.repeats < LEAST:
        raise ConfigError(f"--repeats {given.repeats}: at least {LEAST}, because medians are told")
    output = Path(given.output).absolute() if given.output else None
    if output and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}")
    options = {"data.path": given.data} if given.data else {"data.format": "digits"}
    asked = Asked(
        options=options | {"model.name": given.model},
        repeats=given.repeats,
        local=given.local,
        features=given.features,
    )
    cases: dict[str, Any] = {}
    for name in names:
        measured = CASES[name](asked)
        cases[name] = None if measured is None else asdict(measured)
        print("\n".join(_rows(name, cases[name])), flush=True)
    found = {"machine": _machine(), "options": dict(asked.options), "cases": cases}
    print("machine: " + ", ".join(f"{k} {v}" for k, v in found["machine"].items()), flush=True)
    if output:
        write_json(output, found)
    return {"output": str(output) if output else None, **found}


def _rows(name: str, found: Mapping[str, Any] | None) -> list[str]:
    """Return a case's part of the table."""
    if found is None:
        return [f"{name:<10} not run: it needs Ray (leave out --local)"]
    rows = [f"{name:<10} {found['of']}"]
    rows += [f"  {what:<24} {seconds:10.4f} s" for what, seconds in found["seconds"].items()]
    for what, ratio in found["ratios"].items():
        limit = found["limits"].get(what)
        rows.append(f"  {what:<24} {ratio:10.3f} x{f'  ({limit})' if limit else ''}")
    return rows + _points(found["rows"])


def _points(points: list[dict[str, Any]]) -> list[str]:
    """Return the points of a case as a table, one column for each name."""
    if not points:
        return []
    table = [list(points[0]), *([_short(value) for value in point.values()] for point in points)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    ]


def _short(value: Any) -> str:
    """Return a figure as a person reads it."""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    told = {"cores": os.cpu_count(), "gpu": gpu, "system": platform.system()}
    told |= {name: _version(name) for name in ("raysubset", "torch", "ray", "numpy")}
    return {
        **told,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a machine with plain torch can measure all but Ray
        return "none"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.bench", description=(__doc__ or "").split("\n")[0]
    )
    known = ", ".join(f"{n} ({(c.__doc__ or '').split('.')[0]})" for n, c in CASES.items())
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of: {known}")
    parser.add_argument("--local", action="store_true", help="this process, without Ray")
    parser.add_argument("--data", help="your own: a Parquet file or folder, images or CSV")
    parser.add_argument("--model", default="convnet", help="as --model.name (default: convnet)")
    parser.add_argument("--features", help="an .npz that keeps a trained network's features")
    parser.add_argument("--repeats", type=int, default=LEAST, help=f"default and least: {LEAST}")
    parser.add_argument("--output", help="where the figures go as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
