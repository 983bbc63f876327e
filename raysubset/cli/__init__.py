"""The command line. Names become values here; heavy imports wait until a command needs them."""

from raysubset.cli import asking, doctor, frontier, reporting, runs, selecting, verifying
from raysubset.cli.app import app, call, main
from raysubset.cli.options import long_forms, resolve

__all__ = [
    "app",
    "asking",
    "call",
    "doctor",
    "frontier",
    "long_forms",
    "main",
    "reporting",
    "resolve",
    "runs",
    "selecting",
    "verifying",
]
