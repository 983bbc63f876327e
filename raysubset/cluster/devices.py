"""Devices: what Ray gave a process, and whether its torch can use that."""

from __future__ import annotations

import os

import ray
import ray.train.torch
import torch

from raysubset.errors import RoomError

LOGICAL_GPUS = "RAYSUBSET_LOGICAL_GPUS"  # set by tests: GPUs are numbers, and CPUs do the work


def device_of_actor() -> torch.device:
    """Return the device that Ray gave this actor.

    Raises:
        RoomError: it is a GPU that this process's torch cannot use.
    """
    return torch.device("cuda" if _holds_a_gpu() else "cpu")


def device_of_rank() -> torch.device:
    """Return the device that Ray Train gave this rank; raises as `device_of_actor`."""
    return ray.train.torch.get_device() if _holds_a_gpu() else torch.device("cpu")


def backend() -> str | None:
    """Return what ranks talk by; None: Ray Train's choice, NCCL on GPUs and Gloo on CPUs."""
    return "gloo" if os.environ.get(LOGICAL_GPUS) else None


def _holds_a_gpu() -> bool:
    gpus = ray.get_gpu_ids()
    if not gpus or torch.cuda.is_available():
        return bool(gpus)
    if os.environ.get(LOGICAL_GPUS):
        return False
    raise RoomError(
        f"Ray gave GPU {gpus[0]} of node {ray.util.get_node_ip_address()} to a process whose torch "
        f"{torch.__version__} sees no GPU; install a torch with CUDA there, or give "
        "--resources.device cpu."
    )
