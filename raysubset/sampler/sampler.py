"""SubsetSampler: a chosen subset as a PyTorch sampler."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence, Sized
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from raysubset.errors import ConfigError
from raysubset.sampler.chosen import Chosen, of_array, of_selection
from raysubset.sampler.counted import counted
from raysubset.sampler.drawn import Drawn, Remainder, State
from raysubset.sampler.keys import names_of, positions_of
from raysubset.sampler.place import Place, find_place, refuse_bad_place
from raysubset.sampler.stored import read_stored
from raysubset.sampler.walk import Walk
from raysubset.strategies.selection import Selection

Source = str | PathLike[str] | Selection | Sequence[int] | np.ndarray | Tensor


class SubsetSampler(DistributedSampler[int]):
    """Draws a chosen subset's rows, each once an epoch, in an order of (seed, epoch) alone.

    The order is a hash of (seed, epoch, id), the same on any number of processes: rank r of W
    takes every W-th from the r-th on, and no id is given twice to fill up. A position counts
    examples of that order over all ranks, so what W ranks saved any other number can go on with.

    What `state_dict` takes for consumed: the batches that `counted(loader)` gave to the loop; else
    what was drawn, which is the same with `num_workers=0`, but runs ahead of the loop where worker
    processes prefetch. torchdata's StatefulDataLoader needs no `counted`: it keeps the state that
    belongs to each batch. Accelerate and the Hugging Face Trainer shard what a sampler draws and
    skip what was consumed by themselves: give `world_size=1`, and let them.

    It is a `DistributedSampler` by name, and none of that one's code runs: Lightning, Fabric and
    Ray Train put a sampler of their own in the place of any that is not.

    Args:
        source: the folder of a run (path or URI), or of `raysubset select`; a selection.parquet;
            a `Selection`; distinct ids, as a sequence, an array or a tensor. Where it has a slice
            of ids for each of E epochs, epoch e draws slice e % E.
        seed: of the order; any integer.
        round: of a run; the last finished one by default.
        keys: the names of the dataset's rows, in its order, or an ImageFolder: rows are then found
            by the keys that the run stored, and its ids need not be the dataset's row numbers.
        dataset: what will be drawn from; one with too few rows is refused at once.
        num_examples: the same, as a number.
        shuffle: False for the order of choice in every epoch.
        remainder: "drop" leaves the last K % W ids of each epoch's order out of it, others each
            time (none with one process): every rank has as many, so that no rank of DDP waits for
            ever for one that has ended. "keep" gives them to the first ranks: every id in every
            epoch, for loops in which a rank may end earlier (DDP's `join()`).
        rank: of this process; by default torch.distributed's, asked when an epoch begins.
        world_size: W.

    Raises:
        ConfigError, RunFolderError: a source that cannot be read, ids that are no rows of the
            dataset, or a rank that means nothing; before any work.

    Example:
        >>> sampler = SubsetSampler([5, 3, 8], seed=0)
        >>> loader = DataLoader(list("abcdefghij"), batch_size=2, sampler=sampler)
        >>> for epoch in range(3):
        ...     sampler.set_epoch(epoch)
        ...     assert {letter for batch in loader for letter in batch} == set("fdi")
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        round: int | None = None,
        keys: Any = None,
        dataset: Sized | None = None,
        num_examples: int | None = None,
        shuffle: bool = True,
        remainder: Remainder = "drop",
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        refuse_bad_place(rank, world_size)
        names = None if keys is None else names_of(keys)
        chosen = _chosen(source, round, with_keys=names is not None)
        rows = chosen.ids_EK if names is None else positions_of(chosen, names)
        _refuse_short(rows, chosen.origin, num_examples, dataset)
        self.seed, self.shuffle = operator.index(seed), bool(shuffle)
        self._drawn = Drawn(
            chosen=chosen, row_EK=rows, seed=self.seed, shuffle=self.shuffle, remainder=remainder
        )
        self._rank, self._world_size = rank, world_size
        self._begin(0, 0)

    def _begin(self, epoch: int, start: int) -> None:
        self.epoch, self._start, self._walk = epoch, start, None
        self._named = False  # whether set_epoch named this epoch again after a state was loaded

    @property
    def ids(self) -> np.ndarray:
        """This epoch's ids, over all ranks, in the order of choice. Shape: int64 (K,)."""
        return self._drawn.ids(self.epoch)

    @property
    def positions(self) -> np.ndarray:
        """The dataset's rows beside `ids`: the ids themselves without `keys`. Shape: (K,)."""
        return self._drawn.rows(self.epoch)

    @property
    def weights(self) -> np.ndarray:
        """This epoch's weights for the loss beside `ids`; ones where nothing weighs. float32."""
        return self._drawn.weights(self.epoch)

    def weights_of(self, positions: Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return the weights of a batch, by the dataset's row numbers of its examples.

        The dataset has to give them: an example of `(image, label, row)`. Shape: int (B,) ->
        float32 (B,), on the CPU.

        Raises:
            ConfigError: a row that this epoch does not draw.
        """
        asked = positions.cpu().numpy() if isinstance(positions, Tensor) else positions
        row_B = np.asarray(asked, dtype=np.int64)
        return torch.from_numpy(self._drawn.weights_of(self.epoch, row_B))

    def __iter__(self) -> Walk:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a pass through this rank's share: a whole one, or the rest after a state."""
        spent = self._start == len(self._drawn) and not self._named
        if spent or (self._walk is not None and self._walk.over):
            self._begin(self.epoch, 0)
        self._walk = Walk(self._drawn, self._place, self.epoch, self._start)
        return self._walk

    def __len__(self) -> int:
        """Return how many rows this rank draws in a whole epoch, resumed or not."""
        return self._drawn.count(0, self._place)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch: another one begins at its start, the same one stays where it is.

        Raises:
            ConfigError: a negative number.
        """
        epoch = operator.index(epoch)
        if epoch < 0:
            raise ConfigError(f"set_epoch({epoch}): epochs count from 0.")
        if epoch != self.epoch:
            self._begin(epoch, 0)
        self._named = True

    def state_dict(self) -> State:
        """Return where this epoch stands, in plain values: of any rank, of rank 0 with "keep"."""
        return self._drawn.state(self.epoch, self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved, with any number of processes.

        The next pass draws the rest of that epoch. Where nothing is left of it, the next pass is
        empty if `set_epoch` names that epoch again, else a whole one.

        Raises:
            ConfigError: no state, or one of other ids or of another seed or order.
        """
        epoch, position = self._drawn.read_state(state)
        if position == len(self._drawn) and self.epoch > epoch:
            return  # StatefulDataLoader loads when a pass begins, after the next epoch was named
        self._begin(epoch, position)

    def counted(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Return a loader's batches; each counts as consumed when it is given to the loop.

        Raises:
            ConfigError: the loader does not draw from this sampler, its batches have no known
                size, or its dataset has too few rows.
        """
        _refuse_short(self._drawn.row_EK, self._drawn.chosen.origin, None, loader.dataset)
        return counted(self, lambda: self._walk, loader)

    # Properties, because who this process is may be known only when an epoch begins.

    @property
    def rank(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """This process's rank."""
        return self._place.rank

    @property
    def num_replicas(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """W, the number of ranks."""
        return self._place.world_size

    @property
    def num_samples(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many rows this rank draws in an epoch."""
        return len(self)

    @property
    def total_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many rows all ranks draw in an epoch."""
        return self._drawn.drawn(0, self._place)

    @property
    def drop_last(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether ids that do not fill a row of ranks are left out of an epoch."""
        return self._drawn.remainder == "drop"

    @property
    def dataset(self) -> range:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The places of an epoch's order, for who asks how many there are."""
        return range(len(self._drawn))

    def __repr__(self) -> str:
        """Return for instance "SubsetSampler(500 ids of runs/demo, round 9; seed 0, epoch 3)"."""
        told = f"{len(self._drawn):,} ids of {self._drawn.chosen.origin}"
        return f"SubsetSampler({told}; seed {self.seed}, epoch {self.epoch})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: it goes on where this one stands."""
        named = self._named and not (self._walk is not None and self._walk.over)
        return {**self.__dict__, "_start": self._position, "_named": named, "_walk": None}

    @property
    def _position(self) -> int:
        return self._start if self._walk is None else self._walk.position

    @property
    def _place(self) -> Place:
        return find_place(self._rank, self._world_size)


def _chosen(source: Any, round_: int | None, *, with_keys: bool) -> Chosen:
    if isinstance(source, str | PathLike):
        return read_stored(source, round_, with_keys=with_keys)
    if round_ is not None:
        raise ConfigError(f"round={round_} is of a run folder; {type(source).__name__} has none.")
    return of_selection(source) if isinstance(source, Selection) else of_array(source)


def _refuse_short(row_EK: np.ndarray, origin: str, count: int | None, dataset: object) -> None:
    """Refuse a number of examples, or a dataset of known length, in which a row is not."""
    known = [] if count is None else [count]
    known += [len(dataset)] if isinstance(dataset, Sized) else []
    if known and (last := int(row_EK.max())) >= min(known):
        raise ConfigError(
            f"id {last:,} of {origin} is no row of a dataset of {min(known):,}: ids are row "
            "numbers of the data they were chosen from. Give that dataset; or keys= to find rows "
            "by name."
        )
