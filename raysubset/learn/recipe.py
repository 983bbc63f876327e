"""The training recipe as functions of counts: learning rate, batches, order, optimizer.

Shape letters: K examples of the subset.
"""

from __future__ import annotations

from math import cos, pi

import torch
from torch import Tensor, nn

from raysubset.core.keys import permute
from raysubset.errors import ConfigError, ModelError

_MIN_ROWS = 2  # BatchNorm in training has no variance over a single row
_FUSED_DEVICES = ("cpu", "cuda")  # one kernel per step: 3x quicker than foreach on a CPU


def lr_at(visits: int, *, total_visits: int, warmup: float, lr: float) -> float:
    """Return the learning rate after `visits` example visits: linear rise, then cosine to zero.

    The first `warmup` share of `total_visits` rises from 0 to `lr`; 0 = no rise. A function of
    visits alone (Loshchilov and Hutter, ICLR 2017), so no epoch is ever "skipped".
    Raises ConfigError for a warmup outside [0, 1) and for total_visits below 1.
    """
    if not 0.0 <= warmup < 1.0:
        raise ConfigError(f"warmup={warmup} must lie in [0, 1); 0 means no warm-up")
    if total_visits < 1:
        raise ConfigError(f"total_visits={total_visits} must be 1 or more")
    share = min(max(visits / total_visits, 0.0), 1.0)
    if share < warmup:
        return lr * share / warmup
    return lr * 0.5 * (1.0 + cos(pi * (share - warmup) / (1.0 - warmup)))


def make_optimizer(
    model: nn.Module, *, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> torch.optim.SGD:
    """Return SGD over the parameters that train; build it after the model is on its device.

    Raises ConfigError for Nesterov without momentum, ModelError when every parameter is frozen.
    """
    if nesterov and momentum <= 0:
        raise ConfigError(
            f"nesterov=true needs momentum > 0, got momentum={momentum}; set training.momentum=0.9 "
            f"or training.nesterov=false"
        )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ModelError("the model has no parameter with requires_grad=True; unfreeze the head")
    optimizer = torch.optim.SGD(
        trained,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        fused=all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in trained),
    )
    if momentum > 0:
        _start_momentum(optimizer, trained)
    return optimizer


def _start_momentum(optimizer: torch.optim.SGD, trained: list[nn.Parameter]) -> None:
    """Give every parameter a momentum of zeros, which the first step turns into its gradient."""
    # fused SGD (torch 2.11 to 2.15) fails when a parameter gets its first gradient after step 1
    for parameter in trained:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def batch_bounds(num_rows: int, batch_size: int, ranks: int) -> list[tuple[int, int]]:
    """Return [start, end) of each global batch; together they cover every row once, in order.

    Batches hold `batch_size` rows and ranks share a batch evenly, to within one row. A short last
    batch that would leave a rank fewer than 2 rows joins the batch before it.
    Raises ConfigError when a rank would have no row at all.
    """
    if min(num_rows, batch_size) < ranks or ranks < 1:
        raise ConfigError(
            f"{num_rows} rows in batches of {batch_size} leave a rank of {ranks} without a row; "
            f"lower resources.workers, or raise training.batch_size or the fraction"
        )
    bounds = [
        (start, min(start + batch_size, num_rows)) for start in range(0, num_rows, batch_size)
    ]
    rest = num_rows % batch_size
    if len(bounds) > 1 and 0 < rest < _MIN_ROWS * ranks:
        bounds[-2:] = [(bounds[-2][0], num_rows)]
    return bounds


def epoch_order(ids_K: Tensor, key: int) -> Tensor:
    """Return the ids in the order of the epoch whose key this is. Shape: int64 (K,) -> (K,)."""
    return permute(ids_K, key)
