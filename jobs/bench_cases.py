"""The cases of `jobs.bench`: each returns named seconds and ratios, measured side by side.

A case warms up, then measures what it compares in turns, at least five times each, and tells the
medians: on a shared machine a ratio of medians from one run says more than two figures from two.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from raysubset.experiment import Experiment, nest
from raysubset.learn.layout import laid_out
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.local import local_ports
from raysubset.learn.scoring import Scorer, ranges_of
from raysubset.local_run import local_device
from raysubset.preparation import Prepared, prepare
from raysubset.records import read_history
from raysubset.schedule import Phase

LEAST = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured, and how often.

    Attributes:
        options: the experiment's, by name ("data.path").
        repeats: of everything that is timed, at least LEAST.
        local: this process alone, without Ray.
    """

    options: Mapping[str, Any]
    repeats: int = LEAST
    local: bool = False

    def prepared(self, **changes: Any) -> Prepared:
        """Return the run of these options, with `section__option=value` changes."""
        own = {name.replace("__", "."): value for name, value in changes.items()}
        return prepare(Experiment.of(nest({**self.options, **own})))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case found: medians in seconds, ratios of them, and on what."""

    seconds: dict[str, float]
    ratios: dict[str, float]
    of: str


Case = Callable[[Asked], Measured | None]
"""None: not to be had here (no Ray, for instance)."""


def medians(repeats: int, **timed: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each, measured in turns after one unmeasured turn."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(max(LEAST, repeats) + 1):
        for name, do in timed.items():
            start = perf_counter()
            do()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(perf_counter() - start)
            if turn == 0:
                taken[name].clear()
    return {name: statistics.median(found) for name, found in taken.items()}


def scoring(asked: Asked) -> Measured:
    """The pass that makes gradient factors, against a bare forward pass over the same rows."""
    run = asked.prepared()
    device, problem = _device(run), run.problem
    scorer, pool = Scorer(problem, device), problem.parts.pool
    ranges = ranges_of("pool", pool.id_N, problem.scoring_batch)
    content = torch.from_numpy(np.array(pool.content))
    plain = content.to(device) if device.type == "cuda" else content

    @torch.no_grad()
    def bare() -> None:
        scorer.model.eval()
        for content_B in plain.split(problem.scoring_batch):
            content_B = scorer.normalize(content_B)
            scorer.model(laid_out(content_B, scorer.model)).cpu()

    found = medians(
        asked.repeats, factors=lambda: [scorer.score(rows) for rows in ranges], forward=bare
    )
    return Measured(
        seconds=found,
        ratios={"factors / forward": found["factors"] / found["forward"]},
        of=f"{len(pool.id_N)} rows, batches of {problem.scoring_batch}, {device.type}",
    )


def greedy(asked: Asked) -> Measured:
    """Exact picks against blocks, on the factors of a model that was trained a little."""
    found: dict[str, float] = {}
    told = ""
    for name, picks in (("exact", "exact"), ("blocks", "blocks(10)")):
        run = asked.prepared(selection__glister__picks=picks, selection__strategy="glister")
        taken: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            device = _device(run).type
            pool, trainer = local_ports(
                run.problem, run.chooser, Path(folder), world=1, device=device, progress=_silent
            )
            first = _phase(run, "random", 0)
            weights = trainer.fit(pool.select(first, None), first, None).weights
            for _ in range(max(LEAST, asked.repeats) + 1):
                facts = pool.select(_phase(run, "glister", 1), weights).facts
                taken.append(facts["seconds_greedy"])
            trainer.close()
        found[name] = statistics.median(taken[1:])
        told = f"{first.budget} of {len(run.problem.parts.pool.id_N)}, blocks(10), {device}"
    return Measured(
        seconds=found, ratios={"blocks / exact": found["blocks"] / found["exact"]}, of=told
    )


def training(asked: Asked) -> Measured:
    """Our step loop against a plain PyTorch loop: one process, the same model, rows and batches."""
    run = asked.prepared(training__augment="none", training__precision="fp32")
    device, problem = _device(run), run.problem
    recipe, pool = problem.training, problem.parts.pool
    learner, other = Learner(problem, device, world=1), Learner(problem, device, world=1)
    order = TrainOrder(
        ids_EK=pool.id_N[None],
        weights_K=None,
        epochs=range(1),
        visits_before=0,
        total_visits=len(pool.id_N),
    )
    content = torch.from_numpy(np.array(pool.content)).to(device)
    label = torch.from_numpy(np.array(pool.label_N)).to(device)

    def plain() -> None:
        other.model.train()
        for position_B in _shuffled(len(label), recipe.batch_size, device):
            other.optimizer.zero_grad(set_to_none=True)
            logits_BC = other.model(laid_out(other.normalize(content[position_B]), other.model))
            smoothing = recipe.label_smoothing
            cross_entropy(logits_BC, label[position_B], label_smoothing=smoothing).backward()
            other.optimizer.step()

    found = medians(asked.repeats, ours=lambda: learner.train(order, lambda *_: None), plain=plain)
    return Measured(
        seconds=found,
        ratios={"ours / plain": found["ours"] / found["plain"]},
        of=f"an epoch of {len(label)} rows, batches of {recipe.batch_size}, {device.type}",
    )


def handover(asked: Asked) -> Measured | None:
    """What a round on Ray costs beside forward passes, greedy and training, by placement."""
    if asked.local:
        return None
    from raysubset.cluster.ray_run import run_ray

    found: dict[str, float] = {}
    rounds = max(LEAST, asked.repeats) + 2  # the first selects nothing, the second warms up
    for placement in ("actors", "crew"):
        run = asked.prepared(
            model__name="resnet18",  # 11 million weights: what travels is the size of real ones
            data__limit=300,
            resources__placement=placement,
            resources__workers=1,
            resources__scorers=1,
            training__epochs=rounds,
            selection__select_every=1,
            selection__strategy="glister",
        )
        with tempfile.TemporaryDirectory() as folder:
            run_ray(run, Path(folder) / placement)
            lines = [r for r in read_history(Path(folder) / placement) if r["kind"] == "round"]
        beside = [r["seconds_handover"] + r["seconds_checkpoint_wait"] for r in lines[2:]]
        found[placement] = statistics.median(beside)
    return Measured(
        seconds=found,
        ratios={"actors / crew": found["actors"] / found["crew"]},
        of="a round of ResNet-18, 1 rank and 1 scorer",
    )


CASES: dict[str, Case] = {
    "scoring": scoring,
    "greedy": greedy,
    "training": training,
    "handover": handover,
}


def _device(run: Prepared) -> torch.device:
    return torch.device(local_device(run.experiment.resources.device))


def _phase(run: Prepared, strategy: str, number: int) -> Phase:
    first = run.phases[0]
    return Phase(
        round=number,
        strategy=strategy,
        budget=first.budget,
        epochs=range(number, number + 1),
        visits_before=first.budget * number,
        total_visits=first.budget * 2,
    )


def _shuffled(size: int, batch: int, device: torch.device) -> Iterator[Tensor]:
    yield from torch.randperm(size).to(device).split(batch)


def _silent(*_: object) -> None:
    """Show nothing."""
