"""Training: our step loop against a plain PyTorch loop, and two ranks against two threads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from jobs.benches.measuring import Asked, Measured, device_of, medians
from jobs.benches.pieces import at_precision, clock_of, on_rows, precisions
from jobs.benches.two_ranks import epoch_of, two_ranks
from raysubset.learn.layout import autocast, laid_out
from raysubset.learn.learner import Learner
from raysubset.learn.problem import Problem
from raysubset.learn.rows import tensor_of

ROWS, BATCH = 2_048, 128


def training(asked: Asked) -> Measured:
    """Our step loop against a plain PyTorch loop: the same model, rows, batches, augmentation."""
    run = asked.prepared(training__batch_size=BATCH)
    device, problem = device_of(run), on_rows(run.problem, ROWS)
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    limits: dict[str, str] = {}
    for precision in precisions(device):
        own = at_precision(problem, precision)
        found = {f"{precision} {what}": s for what, s in _measured(asked, own, device).items()}
        ours = found[f"{precision} ours"]
        speed, share = f"{precision}: speed of ours / plain", f"{precision}: loading's share"
        ratios[speed] = found[f"{precision} plain"] / ours
        ratios[share] = found[f"{precision} loading"] / ours
        limits |= {speed: "at least 0.95", share: "at most 0.05"}
        if device.type == "cpu" and torch.distributed.is_available():
            found |= (both := two_ranks(own, asked.repeats, precision))
            threads, ranks = both.values()
            ratios[told := f"{precision}: speed of 2 ranks / 2 threads"] = threads / ranks
            limits[told] = "at least 0.9"
        seconds |= found
    pool, clock = problem.parts.pool, "CPU seconds" if device.type == "cpu" else "seconds"
    return Measured(
        seconds=seconds,
        ratios=ratios,
        of=f"{run.experiment.model.name}, an epoch of {pool.num_examples} rows, batches of "
        f"{BATCH}, augment {problem.augment}, {device.type}; {clock}, of 2 ranks wall seconds",
        limits=limits,
    )


def _measured(asked: Asked, problem: Problem, device: torch.device) -> dict[str, float]:
    """Return median seconds of our epoch, of a plain one, and of ours without model and step."""
    problem = replace(problem, threads=1)
    learner, order = Learner(problem, device, world=1), epoch_of(problem)
    order_N = torch.arange(len(learner.rows), device=device)

    def loading() -> None:
        draws_3N = learner.augment and learner.augment.draws(learner.rows.id_N, 1)
        for start in range(0, len(order_N), BATCH):
            content_B = learner.rows.take(order_N[start : start + BATCH])
            if learner.augment is not None and draws_3N is not None:
                content_B = learner.augment.altered(content_B, draws_3N[:, start : start + BATCH])
            laid_out(learner.normalize(content_B), learner.layout)

    return medians(
        asked.repeats,
        clock_of(device),
        ours=lambda: learner.train(order, lambda *_: None),
        plain=_Plain(problem, device),
        loading=loading,
    )


class _Plain:
    """An epoch as anybody writes it: shuffle, crop and mirror a batch, step."""

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self.twin = Learner(problem, device, world=1)
        pool = problem.parts.pool
        self.content, self.label = (tensor_of(a).to(device) for a in (pool.content, pool.label_N))

    def __call__(self) -> None:
        twin, smoothing = self.twin, self.twin.problem.training.label_smoothing
        twin.model.train()
        for position_B in torch.randperm(len(self.label)).to(self.label.device).split(BATCH):
            twin.optimizer.zero_grad(set_to_none=True)
            content_B = self.content[position_B]
            if twin.augment is not None:
                content_B = cropped(content_B, twin.augment.crop_pad, flip=twin.augment.flip)
            with autocast(twin.device, twin.amp):
                logits_BC = twin.model(laid_out(twin.normalize(content_B), twin.layout))
            loss = cross_entropy(
                logits_BC.float(), self.label[position_B], label_smoothing=smoothing
            )
            loss.backward()
            twin.optimizer.step()


def cropped(image_BCHW: Tensor, padding: int, *, flip: bool) -> Tensor:
    """Return each image cropped at random out of its zero-padded self, half of them mirrored."""
    batch, channels, height, width = image_BCHW.shape
    on = image_BCHW.device
    top_B, left_B = torch.randint(0, 2 * padding + 1, (2, batch), device=on)
    row_BH = top_B[:, None] + torch.arange(height, device=on)
    column_BW = left_B[:, None] + torch.arange(width, device=on)
    if flip:
        mirrored_B = torch.rand(batch, device=on) < 0.5
        column_BW = torch.where(mirrored_B[:, None], column_BW.flip(1), column_BW)
    image_B, channel_C = torch.arange(batch, device=on), torch.arange(channels, device=on)
    return pad(image_BCHW, (padding,) * 4)[
        image_B[:, None, None, None],
        channel_C[None, :, None, None],
        row_BH[:, None, :, None],
        column_BW[:, None, None, :],
    ]
