"""People's own models and datasets on the Ray that is connected: the same ids as in one process.

Model and datasets are put once for a call. Ranges and batches are fixed, so that neither the number
of actors nor the order of arrival can change a bit.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import ray
import ray.cloudpickle as cloudpickle
import torch
from ray._private.state import available_resources_per_node
from ray.util.client import ray as client
from torch import nn

from raysubset.cluster.blocks import Located, carried
from raysubset.cluster.devices import device_of_actor
from raysubset.cluster.group import wait_for_room
from raysubset.cluster.memory import Meter
from raysubset.cluster.one_pass import START_PATIENCE
from raysubset.cluster.room import Room, places
from raysubset.cluster.scorers import Scorers
from raysubset.cluster.selecting import room_for_scorers
from raysubset.cluster.session import all_nodes
from raysubset.cluster.versions import refuse_other_versions
from raysubset.errors import CrewLost, DataError, RaySubsetError, RoomError
from raysubset.experiment import ResourceSettings
from raysubset.learn.choosing import Choice, Progress, choose
from raysubset.learn.outside.adapted import devices_of
from raysubset.learn.outside.rows import Arrays, OutsideRows
from raysubset.learn.outside.scorer import Outside, OutsideScorer
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RangeOutput, RowRange
from raysubset.logs import reshape
from raysubset.strategies.selection import Selection

logger = logging.getLogger(__name__)
_NONE = np.zeros(0)
_IN_PYTHON = {
    " with --resume": " again",
    "--resources.scorers": "scorers=",
    "--resources.start_timeout_s": "timeout_s=",
    "--resources.autoscaler_timeout_s": "timeout_s=",
    "--resources.call_timeout_s": "timeout_s=",
    "--selection.batch_size": "batch_size=",
    "run the same command": "call it",
    "Run the same command": "Call it",
    " Raise --resources.max_failures where machines come and go.": "",
    "use --resources.placement crew": 'give ray="never"',
    "--resources.device cpu": "a model on the CPU",
}


class OutsideActor:
    """What an actor holds of a call of `select`; see `GradientActor`, whose verbs these are."""

    def __init__(self, name: str = "raysubset-scorer") -> None:
        """Wait for the first call, under this name."""
        self.name = name
        reshape()
        self._scorer: OutsideScorer | None = None
        self.meter = Meter()

    def __repr__(self) -> str:
        """Return what the dashboard calls this actor."""
        return self.name

    def scorer(self, problem: Sequence[Any]) -> OutsideScorer:
        """Return the scorer on this actor's device; `problem` is [ref]."""
        if self._scorer is None:
            outside: Outside = carried(problem[0])
            torch.set_num_threads(outside.arithmetic.threads)
            device = device_of_actor()
            outside.model.to(device)
            self._scorer = OutsideScorer(outside, device)
        return self._scorer

    def warm(self, problem: Sequence[Any]) -> None:
        """Place the model ahead of the first range."""
        self.scorer(problem)

    def score(
        self,
        problem: Sequence[Any],
        version: str,
        weights: Sequence[Any],
        located: Located,
        embeddings: bool,
    ) -> tuple[RangeOutput, tuple[float, dict[str, int], float, bool]]:
        """Return a range's output; its seconds, memory, no time for weights, nothing kept."""
        scorer, start = self.scorer(problem), time.perf_counter()
        output = scorer.score(located.rows, embeddings=embeddings)
        return output, (time.perf_counter() - start, self.meter.figures, 0.0, False)

    def choose(self, choice: Choice, *outputs: RangeOutput) -> Selection:
        """Choose on this actor's device; the outputs come straight from the other actors."""
        return choose(choice, outputs, device_of_actor())


def connected() -> bool:
    """Return whether this process is connected to a Ray; none is connected to by asking."""
    return ray.is_initialized()


def room_here(
    outside: Outside, *, asked: ResourceSettings, wanted: Literal["auto", "always"]
) -> Room | None:
    """Return where the scorers go; None where this process is to score itself.

    That is for a model in several places or on another kind of device, and in a cluster that has
    no room now.

    Raises:
        RoomError: the same, where Ray is wanted; or more scorers asked for than there is room.
    """
    devices = devices_of(outside.model)
    if client.is_connected():
        why = "this process is a Ray client (ray://), and scorers start from the cluster alone"
    elif len(devices) > 1 or devices[0].type not in ("cpu", "cuda"):
        why = f"the model lies on {', '.join(str(device) for device in devices)}"
    elif devices[0].type == "cuda" and not places(all_nodes(asked), "cuda"):
        why = "the model is on a GPU, and the cluster has none"
    else:
        with _said_in_python():
            room = room_for_scorers(asked, all_nodes(asked))
        spare = places(list(available_resources_per_node().values()), room.device)
        if asked.scorers != "auto" or wanted == "always":
            return room
        if spare:
            return _of(room, min(room.scorers, spare))
        why = "the connected Ray has no free place for a scorer now"
    if wanted == "always":
        raise RoomError(f'{why}, so no scorer could start on Ray; give ray="never".')
    logger.info("%s: scored in this process, with the same ids", why)
    return None


def _of(room: Room, scorers: int) -> Room:
    gpus = scorers if room.device == "cuda" else 0
    return replace(room, scorers=scorers, cpus=scorers, gpus=gpus)


def settings(
    scorers: int | Literal["auto"], timeout_s: float, model: nn.Module
) -> ResourceSettings:
    """Return the settings of a call: one patience for places, starts and answers."""
    return ResourceSettings(
        scorers=scorers,
        workers=1,
        device="cuda" if devices_of(model)[0].type == "cuda" else "cpu",
        call_timeout_s=timeout_s,
        start_timeout_s=max(1.0, timeout_s / START_PATIENCE),
    )


def score_and_choose_on_ray(
    outside: Outside,
    room: Room,
    asked: ResourceSettings,
    ranges: Sequence[RowRange],
    choice: Choice,
    progress: Progress,
) -> tuple[Selection, dict[str, float]]:
    """Return the selection and what it took; the scorers end with the call.

    Raises:
        DataError: a model or dataset that cannot be pickled, and so not be sent.
        RoomError, CrewLost: no room in time; scorers died or fell silent.
    """
    with _said_in_python(), ExitStack() as ending:
        refuse_other_versions()
        wait_for_room(room, asked)
        scorers = Scorers(_put(outside), room, asked, "select", OutsideActor)
        ending.callback(scorers.close)
        scorers.wait_until_ready()
        return score_and_choose_with(scorers, outside, ranges, choice, progress)


def score_and_choose_with(
    scorers: Scorers,
    outside: Outside,
    ranges: Sequence[RowRange],
    choice: Choice,
    progress: Progress,
) -> tuple[Selection, dict[str, float]]:
    """Return the selection by scorers that stand ready; any number of them gives the same."""
    scored = scorers.score(
        "select",
        _NONE,  # the weights are the model's, which has travelled
        [Located(rows=rows, blocks=(index,)) for index, rows in enumerate(ranges)],
        embeddings=choice.embeddings,
        progress=progress,
        stage="score:select",
    )
    with torch_threads(outside.arithmetic.threads):
        if scorers.on_gpu:
            chosen = scorers.choose(choice, scored, "choose:select")
        else:
            chosen = choose(choice, scored.outputs, progress=progress)
    facts = {
        "scorers": float(len(scorers.actors)),
        "seconds_scoring": scored.busy_s,
        "scoring_retries": float(scored.retries),
    }
    return chosen, facts


@contextmanager
def _said_in_python() -> Generator[None]:
    """Tell errors about options of the command as errors about arguments."""
    try:
        yield
    except (CrewLost, RoomError) as error:
        raise type(error)(in_python(error)) from error


def in_python(error: RaySubsetError) -> str:
    """Return a message about the command's options as one about arguments."""
    told = error.message
    for option, argument in _IN_PYTHON.items():
        told = told.replace(option, argument)
    if "ModuleNotFoundError" in told:
        told += (
            ' The nodes need your modules too: ray.init(runtime_env={"working_dir": "."}) sends '
            "them."
        )
    return told


def portable(outside: Outside) -> Outside:
    """Return what every node can read: the model's weights and whole arrays on the CPU."""
    model = outside.model
    if devices_of(model)[0].type != "cpu":
        # What a copy is to hold in place of each tensor, so that the device holds no second model.
        memo: dict[int, Any] = {id(t): _on_cpu(t) for t in (*model.parameters(), *model.buffers())}
        model = copy.deepcopy(model, memo)
    return replace(
        outside,
        model=model,
        pool=_portable_rows(outside.pool),
        validation=_portable_rows(outside.validation),
    )


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    own = tensor.detach().cpu()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(own, requires_grad=tensor.requires_grad)
    return own


def _portable_rows(rows: OutsideRows) -> OutsideRows:
    if isinstance(rows.dataset, Arrays):
        return replace(rows, dataset=rows.dataset.portable())
    return rows


def _put(outside: Outside) -> Any:
    """Put all of it once; what cannot be sent is named.

    Raises:
        DataError: which part, and the remedy.
    """
    try:
        sent = portable(outside)
        return ray.put(sent)
    except Exception as error:  # pickling runs people's own code
        raise _unsent(outside, error) from error


def _unsent(outside: Outside, error: Exception) -> DataError:
    parts = {
        "model": outside.model,
        "adapter": outside.adapter,
        "train_set": outside.pool.dataset,
        "val_set": outside.validation.dataset,
        "collate_fn": outside.pool.collate,
    }
    for name, part in parts.items():
        try:
            cloudpickle.dumps(part)  # pyright: ignore[reportPrivateImportUsage]
        except Exception as cause:  # as above
            first = str(cause).strip().splitlines()[0] if str(cause).strip() else ""
            told = f"{name} cannot be pickled ({type(cause).__name__}: {first})"
            break
    else:
        told = f"model and datasets could not be sent ({type(error).__name__}: {error})"
    return DataError(
        f"{told}, so no other process could hold it; keep locks, open files and connections out of "
        'it (open them when they are first used), or give ray="never" to score in this process.'
    )
