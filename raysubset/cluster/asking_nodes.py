"""One small task a node, all at once: what each of them says, and why one says nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

T = TypeVar("T")


def ask_nodes(
    function: Callable[..., T],
    args: Sequence[Any],
    nodes: Iterable[str],
    limit_s: float,
    name: str,
    **options: Any,
) -> tuple[dict[str, T], dict[str, str]]:
    """Return node id -> answer, and node id -> why there is none, the late ones first.

    Args:
        function: what each node calls; its module goes there by value, so that a node with
            another raysubset still answers.
        args: of the call.
        nodes: the ids of those to ask.
        limit_s: how long a node may take; later its task is cancelled.
        name: of the tasks.
        options: more of the tasks'.
    """
    refs: dict[Any, str] = {}
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        task = ray.remote(function)
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            own = task.options(num_cpus=0, scheduling_strategy=there, name=name, **options)
            refs[own.remote(*args)] = node
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    ready, late = ray.wait(list(refs), num_returns=len(refs), timeout=limit_s)
    silent = {refs[ref]: f"no answer within {limit_s:g} s" for ref in late}
    for ref in late:
        ray.cancel(ref, force=True)
    answers: dict[str, T] = {}
    for ref in ready:
        try:
            answers[refs[ref]] = ray.get(ref, timeout=limit_s)
        except RayError as error:  # its node is going, or another look than ours failed there
            silent[refs[ref]] = first_line(error)
    return answers, silent


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says anything, or its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")
