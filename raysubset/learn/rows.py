"""Rows on a device: whole arrays resident where they fit, batches are index slices."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raysubset.errors import DataError
from raysubset.learn.blocks import Block


class Rows:
    """The rows of some blocks of one part, ready for a device.

    Attributes:
        label_N: int64 on the device.
        id_N: int64 on the device, ascending.
        row_N: int64 on the device: positions in the whole part.
    """

    def __init__(self, blocks: Sequence[Block], device: torch.device) -> None:
        """Move the rows to the device, or read them where they lie if they are too many."""
        self.device = device
        pieces = [tensor_of(block.content) for block in blocks]
        self.resident = bool(pieces) and _fits(pieces, device)
        self._pieces = [_moved(pieces, device)] if self.resident else pieces
        self._starts = _starts(self._pieces)
        self.label_N = _joined([block.label_B for block in blocks], device)
        self.id_N = _joined([block.id_B for block in blocks], device)
        self.row_N = _joined([block.row_B for block in blocks], device)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.id_N)

    def positions(self, ids: np.ndarray | Tensor) -> Tensor:
        """Return where these ids lie. Shape: (K,) -> int64 (K,) on the device.

        Raises:
            DataError: an id that is not here.
        """
        ids_K = torch.as_tensor(ids, dtype=torch.int64).to(self.device)
        position_K = torch.searchsorted(self.id_N, ids_K).clamp_(max=max(0, len(self) - 1))
        if not len(self) or not bool((self.id_N[position_K] == ids_K).all()):
            raise DataError(f"some of {ids_K.numel()} ids are not among the {len(self)} rows held.")
        return position_K

    def take(self, position_B: Tensor) -> Tensor:
        """Return the content of some rows, on the device."""
        if self.resident:
            return self._pieces[0].index_select(0, position_B)  # 10x quicker than [position_B]
        return on_device(self._gathered(position_B.cpu().contiguous()), self.device)

    def _gathered(self, position_B: Tensor) -> Tensor:
        """Return the content of some rows on the host, read out of the pieces as they lie."""
        if len(self._pieces) == 1:
            return self._pieces[0].index_select(0, position_B)
        first = self._pieces[0]
        content_B = torch.empty((len(position_B), *first.shape[1:]), dtype=first.dtype)
        piece_B = torch.searchsorted(self._starts, position_B, right=True) - 1
        for piece in piece_B.unique().tolist():
            mine = (piece_B == piece).nonzero()[:, 0]
            content_B[mine] = self._pieces[piece][position_B[mine] - self._starts[piece]]
        return content_B


def on_device(content_B: Tensor, device: torch.device) -> Tensor:
    """Return a batch of the host on the device; the copy does not wait."""
    if device.type != "cuda":
        return content_B.to(device)
    return content_B.pin_memory().to(device, non_blocking=True)


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a view of an array that nobody will write to, without torch's warning."""
    with warnings.catch_warnings():
        # Arrays shared by Ray are read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _joined(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    if not arrays:
        return torch.zeros(0, dtype=torch.int64, device=device)
    return tensor_of(arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).to(device)


def _starts(pieces: Sequence[Tensor]) -> Tensor:
    sizes = [0, *(len(piece) for piece in pieces[:-1])]
    return torch.tensor(sizes).cumsum(0)


def _moved(pieces: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return all rows in one tensor on the device; a host's single piece is not copied."""
    if len(pieces) == 1:
        return pieces[0].to(device)
    size, first = sum(len(piece) for piece in pieces), pieces[0]
    content = torch.empty((size, *first.shape[1:]), dtype=first.dtype, device=device)
    start = 0
    for piece in pieces:
        content[start : start + len(piece)].copy_(piece)
        start += len(piece)
    return content


def _fits(pieces: Sequence[Tensor], device: torch.device) -> bool:
    """Return whether batches are slices of one tensor; on a host only what is one piece already."""
    if device.type != "cuda":
        return len(pieces) == 1  # else a copy for each process
    free_bytes, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for itself after rows were let go is free too.
    free_bytes += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # Half of what is free: the model, its activations and the optimizer need the rest.
    return sum(piece.numel() * piece.element_size() for piece in pieces) < free_bytes // 2
