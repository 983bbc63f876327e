"""What ranks share: gradients summed in rank order, and rank 0's buffers after the last step."""

# No `from __future__ import annotations`: DDP compares the hook's annotations with the classes.

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysubset.learn.problem import Problem


def in_rank_order(
    _: object,
    bucket: dist.GradBucket,  # pyright: ignore[reportPrivateImportUsage]  # public, not in __all__
) -> torch.futures.Future[Tensor]:
    """Average a gradient bucket: each rank's part divided by W, added in rank order.

    Two ranks need no order (a + b == b + a); from three on, gloo's ring has its own. This costs
    W times the memory of a bucket, so it is used on CPU only.
    """
    world = dist.get_world_size()
    own = bucket.buffer() / world
    parts = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(parts, own)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(total)
    return future


def distributed(model: nn.Module, problem: Problem, device: torch.device) -> nn.Module:
    """Return the model as one rank of DDP; alone, it needs no wrapper."""
    if dist.get_world_size() == 1:
        return model
    on_gpu = device.type == "cuda"
    wrapped = DistributedDataParallel(
        model,
        device_ids=[device] if on_gpu else None,
        find_unused_parameters=has_idle_parameters(model, problem, device),
    )
    # A broadcast before each forward pass is for nothing where training only writes the buffers.
    # (As an argument it has one name before PyTorch 2.13 and another since; as this it has one.)
    wrapped.broadcast_buffers = reads_buffers(model)
    if not on_gpu and dist.get_world_size() > 2:
        wrapped.register_comm_hook(None, in_rank_order)
    return wrapped


def has_idle_parameters(model: nn.Module, problem: Problem, device: torch.device) -> bool:
    """Return whether a step leaves parameters without a gradient; DDP must know, and look for them.

    A copy takes the step, and the random stream is put back: nothing is changed by asking.
    """
    sample = problem.sample()
    probe = copy.deepcopy(model).train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        probe(sample.to(device)).sum().backward()
    return any(p.requires_grad and p.grad is None for p in probe.parameters())


def reads_buffers(model: nn.Module) -> bool:
    """Return whether a forward pass of training may read buffers, and so needs rank 0's.

    The running statistics of PyTorch's own BatchNorm are written only: what a rank writes decides
    nothing, and rank 0's are everybody's after the last step.
    """
    own = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return any(
        buffer is not None
        for module in model.modules()
        if type(module) not in own  # a subclass may read them
        for buffer in module._buffers.values()
    )


def share_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0.

    After the last step every rank has the BatchNorm statistics of its own slices, and would score
    and evaluate with them.
    """
    if dist.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
