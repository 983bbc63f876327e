"""Pin the tested versions: one list, in pyproject.toml for uv and in jobs/requirements.txt for pip.

Run it bare, `python jobs/pin.py` (standard library only): `uv run` fails when the pins do.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its select.py is a job, and subprocess wants Python's own

import argparse
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "# --- tested versions: written by jobs/pin.py, not by hand ---\n"
END = "# --- end of tested versions ---\n"
HEADER = "# Tested versions, the list of pyproject.toml. Written by jobs/pin.py, not by hand.\n"
# --python-version is the oldest one: a universal list starts there and covers all later ones
COMPILE = """uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --quiet
--no-emit-index-url --no-annotate --no-header --output-file requirements.txt""".split()
EPILOG = """exit codes: 0 the lists are written, or agree; 1 --check found that they differ; 2 wrong
usage, no block in pyproject.toml, no uv, or no versions that fit together"""


class PinError(Exception):
    """A list that cannot be made; the message says what to do."""


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write or check both lists below `root`; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], epilog=EPILOG)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="compare the lists; needs no network")
    upgrade = "move these packages, or all, to the newest that fit (default: keep what fits)"
    how.add_argument("--upgrade", nargs="*", metavar="NAME", help=upgrade)
    options = parser.parse_args(arguments)
    project, requirements = root / "pyproject.toml", root / "jobs" / "requirements.txt"
    if options.check:
        return compare(read_constraints(project), read_requirements(requirements))
    try:
        pins = compile_pins(project, requirements, options.upgrade)
        project.write_text(with_block(project.read_text(), pins))
    except PinError as error:
        print(f"pin: {error}", file=sys.stderr)
        return 2
    requirements.write_text(HEADER + "".join(f"{pin}\n" for pin in pins))
    print(f"pin: {len(pins)} tested versions in pyproject.toml and jobs/requirements.txt")
    return 0


def compile_pins(project: Path, requirements: Path, upgrade: list[str] | None) -> list[str]:
    """Return one version per package and marker, for every platform and supported Python."""
    with tempfile.TemporaryDirectory(prefix="pin-") as folder:
        # a copy without the old block: in place, uv would bind the new list to the old one
        Path(folder, "pyproject.toml").write_text(with_block(project.read_text(), []))
        if requirements.exists() and upgrade != []:  # uv keeps what fits of an existing output
            Path(folder, "requirements.txt").write_text(requirements.read_text())
        wishes = [f"--upgrade-package={name}" for name in upgrade or []]
        try:
            subprocess.run([*COMPILE, *wishes], cwd=folder, check=True)
        except FileNotFoundError:
            raise PinError("uv is not on PATH; install it with `pip install uv`") from None
        except subprocess.CalledProcessError:
            raise PinError("uv found no list (see above); loosen a bound or --upgrade") from None
        pins = read_requirements(Path(folder, "requirements.txt"))
    if foreign := [pin for pin in pins if "==" not in pin or "/" in pin]:
        raise PinError(f"not plain versions, other machines cannot install them: {foreign}")
    return pins


def with_block(text: str, pins: list[str]) -> str:
    """Return the pyproject text with its block of constraints replaced by `pins`."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise PinError(f"pyproject.toml needs these two lines, once, in [tool.uv]:\n{BEGIN}{END}")
    rows = "".join(f'    "{pin}",\n' for pin in pins)
    block = f"constraint-dependencies = [\n{rows}]\n"
    return text.split(BEGIN)[0] + BEGIN + block + END + text.split(END)[1]


def read_constraints(project: Path) -> list[str]:
    """Return the list that uv obeys."""
    return tomllib.loads(project.read_text())["tool"]["uv"].get("constraint-dependencies", [])


def read_requirements(requirements: Path) -> list[str]:
    """Return the list that pip obeys; an absent file is an empty list."""
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def compare(constraints: list[str], pinned: list[str]) -> int:
    """Print where the two lists differ; return 1 if they do or if nothing is pinned."""
    only = [f"only in pyproject.toml: {pin}" for pin in constraints if pin not in pinned]
    only += [f"only in requirements.txt: {pin}" for pin in pinned if pin not in constraints]
    print("\n".join(only) or f"pin: both lists hold the same {len(pinned)} versions")
    return 1 if only or not pinned else 0


if __name__ == "__main__":
    sys.exit(main())
