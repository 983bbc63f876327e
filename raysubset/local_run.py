"""A run in this process, without Ray."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from raysubset.engine import Outcome, Silence, Watch, run
from raysubset.errors import ConfigError
from raysubset.fenced import Fenced
from raysubset.learn.local import local_ports
from raysubset.learn.numerics import full_fp32, settled
from raysubset.learn.problem import torch_threads
from raysubset.preparation import Prepared, tracked_ledger
from raysubset.storage.staging import staged


def run_local(
    prepared: Prepared, run_dir: str | Path, *, resume: bool = False, watch: Watch | None = None
) -> Outcome:
    """Run with the laptop twins: the same ids and metrics as on Ray at the same W."""
    resources = prepared.experiment.resources
    device = local_device(resources.device)  # before the run folder is made
    overlap = prepared.experiment.selection.overlap
    with (
        # Scoring asks for it, and it holds for the whole process: also for training beside it.
        full_fp32() if overlap else nullcontext(),
        torch_threads(resources.threads_per_rank),
        settled(prepared.experiment.training),
        staged(run_dir) as folder,
        tracked_ledger(prepared, folder, resume=resume) as ledger,
    ):
        watch = Fenced(watch or Silence(), ledger.path)
        pool, trainer = local_ports(
            prepared.problem,
            prepared.chooser,
            ledger.rounds,
            world=resources.ranks,
            device=device,
            progress=watch.progress,
        )
        try:
            beside = pool if overlap else None
            return run(prepared.experiment, prepared.phases, pool, trainer, ledger, watch, beside)
        finally:
            trainer.close()


def local_device(asked: str) -> str:
    """Return "cuda" or "cpu" as asked for and there."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ConfigError(
            "resources.device=cuda, but this machine has no usable GPU "
            f"(torch {torch.__version__} on {sys.platform}); use --resources.device cpu."
        )
    return "cuda" if asked != "cpu" and there else "cpu"
