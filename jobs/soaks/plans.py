"""What a soak does, out of one seed: which runs, and the faults that disturb each of them."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DRIVER, NODE = "driver", "node"
AT_A_POINT = "driver at a point"
"""It befalls a process that was started to die so; all other kinds come from outside."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault.

    Attributes:
        who: `DRIVER`, `NODE`, or the class of an actor on Ray.
        signal: what its process gets.
        codes: with which the driver must end; () where it may go on or end as it likes.
    """

    who: str
    signal: signal.Signals
    codes: tuple[int, ...] = ()


KINDS = {
    "scorer killed": Kind(who="GradientActor", signal=signal.SIGKILL),
    "rank killed": Kind(who="RayTrainWorker", signal=signal.SIGKILL),
    "rank stopped": Kind(who="RayTrainWorker", signal=signal.SIGSTOP),
    "mailbox killed": Kind(who="Mailbox", signal=signal.SIGKILL),
    "controller killed": Kind(who="TrainController", signal=signal.SIGKILL),
    "node removed": Kind(who=NODE, signal=signal.SIGKILL),
    "driver killed": Kind(who=DRIVER, signal=signal.SIGKILL, codes=(-9,)),
    "driver terminated": Kind(who=DRIVER, signal=signal.SIGTERM, codes=(75,)),
    "driver interrupted": Kind(who=DRIVER, signal=signal.SIGINT, codes=(130,)),
    AT_A_POINT: Kind(who=DRIVER, signal=signal.SIGKILL, codes=(-9,)),
}
FROM_OUTSIDE = {name: kind for name, kind in KINDS.items() if name != AT_A_POINT}


@dataclass(frozen=True, kw_only=True)
class Sort:
    """A sort of run.

    Attributes:
        name: what it is called.
        options: of `raysubset run`, beside `COMMON`.
        local: in one process, without Ray.
    """

    name: str
    options: str = ""
    local: bool = False

    @property
    def scorers(self) -> bool:
        """Return whether it has any: not where the ranks score."""
        return "--resources.placement crew" not in self.options

    def kinds(self) -> list[str]:
        """Return the kinds of faults that can befall it."""
        none = () if self.scorers else ("GradientActor",)
        return [
            name
            for name, kind in FROM_OUTSIDE.items()
            if kind.who not in none and (kind.who == DRIVER or not self.local)
        ]


COMMON = (
    "--data digits --data.limit 600 --model.name mlp --fraction 0.3 --epochs 120 "
    "--selection.select_every 12 --selection.batch_size 8 --training.batch_size 4 "
    "--resources.workers 2 --resources.checkpoint_every_s 0 --resources.keep_checkpoints 99 "
    "--resources.start_timeout_s 120 --resources.call_timeout_s 90"
)
"""Small, but longer than a crew takes to start, else few faults would find it at work; and with
all that can be compared: the state of every round, and of every epoch on the way."""
SORTS = (
    Sort(name="exact", options="--resources.scorers 2 --resources.placement actors"),
    Sort(name="crew", options="--resources.placement crew --selection.warm_start 0.2"),
    Sort(name="overlap", options="--resources.scorers 2 --resources.placement actors "
         "--selection.overlap true --selection.glister.picks blocks(6)"),
    Sort(name="local", options="--epochs 48 --selection.glister.picks blocks(6)", local=True),
    Sort(name="candidates", options="--resources.scorers 3 --resources.placement actors "
         "--selection.candidates 2 --resources.max_failures 9 --model.name convnet"),
    Sort(name="adaptive", options="--strategy adaptive-random --resources.placement crew"),
    Sort(name="one rank", options="--resources.workers 1 --resources.scorers 4 "
         "--resources.placement actors --resources.max_failures 0"),
    Sort(name="local smaller", options="--epochs 48 --selection.goal smaller "
         "--selection.proxy_epochs 4", local=True),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault to come.

    Attributes:
        kind: of `KINDS`.
        delay_s: how long to let the run be, once all is as the others ask.
        moving: wait until the run comes further; else it may fall into the start of a process.
        at_once: do not wait until the fault before is overcome.
    """

    kind: str
    delay_s: float
    moving: bool = False
    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run to disturb.

    Attributes:
        number: which of the soak.
        sort: of run.
        seed: of the run.
        faults: in their order.
    """

    number: int
    sort: Sort
    seed: int
    faults: Sequence[Fault]

    def words(self) -> list[str]:
        """Return the options of its command, but for the folder and --resume."""
        local = ["--local"] if self.sort.local else []
        told = dict(_pairs(COMMON.split())) | dict(_pairs(self.sort.options.split()))
        words = [word for pair in told.items() for word in pair]
        return [*words, "--seed", str(self.seed), *local]


def plans(seed: int, *, local: bool = False) -> Iterator[Plan]:
    """Yield the runs of a soak without end, the same for the same seed.

    Every kind of fault comes once before any comes again, as far as the runs allow.

    Args:
        seed: of the order of runs and faults.
        local: only runs in one process.
    """
    rng = random.Random(seed)
    sorts = [sort for sort in SORTS if sort.local or not local]
    rng.shuffle(sorts)
    bag: list[str] = []
    number = 0
    while True:
        for sort in sorts:
            kinds = _dealt(rng, bag, sort.kinds(), rng.randint(2, 3) if sort.local else 5)
            yield Plan(number=number, sort=sort, seed=seed, faults=_faults(rng, kinds, sort))
            number += 1


def _dealt(rng: random.Random, bag: list[str], possible: list[str], count: int) -> list[str]:
    """Take kinds out of the bag; those that cannot befall this run stay for the next one."""
    taken: list[str] = []
    while len(taken) < count:
        fits = [kind for kind in bag if kind in possible]
        if not fits:
            more = list(FROM_OUTSIDE)
            rng.shuffle(more)
            bag += more
            continue
        taken.append(fits[0])
        bag.remove(fits[0])
    return taken


def _faults(rng: random.Random, kinds: list[str], sort: Sort) -> list[Fault]:
    most_s = 1.5 if sort.local else 4.0
    faults: list[Fault] = []
    for kind in kinds:
        # One in five falls anywhere from the start of a process on, that of the crew included.
        moving = rng.random() < 0.8
        at_once = bool(faults) and rng.random() < 0.15
        delay_s = rng.uniform(0, most_s if moving or at_once else 5 * most_s)
        faults.append(
            Fault(kind=kind, delay_s=delay_s, moving=moving and not at_once, at_once=at_once)
        )
    return faults


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))
