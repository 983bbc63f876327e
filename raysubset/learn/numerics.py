"""Numerics of a process: deterministic algorithms, tuned convolutions, compiled steps, full fp32.

TF32 is never used for what chooses: the head's product, the residual p - y and the gains are full
fp32 (`full_fp32`), whatever the process allows elsewhere. Forward passes follow
`training.precision`; with fp32, cuDNN's convolutions may use TF32, as torch has it by default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from raysubset.errors import ModelError
from raysubset.learn.settings import TrainingSettings

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_NO_FORM = re.compile(r"(\S+) does not have a deterministic implementation")
_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx")


def settle(training: TrainingSettings) -> None:
    """Make this process deterministic where that is asked for; called before CUDA starts in it."""
    if not training.deterministic:
        return
    # cuBLAS reads it when it starts; torch refuses its products without it.
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def settled(training: TrainingSettings) -> Generator[None]:
    """Settle this process, and give it back as it was: it may be somebody's notebook."""
    flag: bool = torch.are_deterministic_algorithms_enabled()
    cudnn: Any = torch.backends.cudnn
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = cudnn.deterministic, cudnn.benchmark
    settle(training)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(flag, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def tuned(training: TrainingSettings, device: torch.device) -> Generator[None]:
    """Let cuDNN time its algorithms while training on a GPU, whose batches have few shapes.

    Not while scoring: two scorers could time differently, and their ids would differ with them.
    """
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = device.type == "cuda" and not training.deterministic
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextmanager
def full_fp32() -> Generator[None]:
    """Take fp32 products in full fp32, also where the process allows TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def stepping(forward: nn.Module, training: TrainingSettings) -> nn.Module:
    """Return what training calls: the module, or its compiled twin on the same parameters.

    The eager module stays the owner of the state, so checkpoints have its names, and scoring and
    evaluation, with the hook at the head, go through it. DDP is compiled whole, hooks included.
    """
    if not training.compile:
        return forward
    compiled = torch.compile(forward)
    assert isinstance(compiled, nn.Module), "torch.compile of a module is a module"
    return compiled


@contextmanager
def explained(training: TrainingSettings) -> Generator[None]:
    """Tell what these options made fail in a sentence that ends with the remedy.

    Raises:
        ModelError: an operation without a deterministic form, by name; or a failed compilation.
    """
    try:
        yield
    except (RuntimeError, ModelError) as error:  # a model's first look wraps what it raises
        if training.deterministic and "deterministic" in str(error):
            raise ModelError(
                f"training.deterministic=true, and the model uses {_operation(error)}, which has "
                "no deterministic form on this device; use another layer, or set "
                "--training.deterministic false."
            ) from error
        if training.compile and _of_compiler(error):
            raise ModelError(
                f"training.compile=true, and torch.compile failed ({_first_line(error)}); a C++ "
                "compiler is needed on every node (CPU: g++; GPU: gcc and Triton). Install it, or "
                "set --training.compile false."
            ) from error
        raise


def _operation(error: Exception) -> str:
    named = _NO_FORM.search(str(error))
    return named[1] if named else f"an operation ({_first_line(error)})"


def _of_compiler(error: BaseException | None) -> bool:
    while error is not None:
        if type(error).__module__.startswith(_COMPILERS):
            return True
        error = error.__cause__
    return False


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200].rstrip(".:")
