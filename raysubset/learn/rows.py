"""Rows on a device: whole arrays resident where they fit, batches are index slices."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from raysubset.learn.data import Dataset


class Rows:
    """The rows of one part, ready for a device.

    Attributes:
        label_N: int64 on the device.
        id_N: int64 on the device, ascending.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        """Move the rows to the device, or keep them on the host where they are too many."""
        self.device = device
        content = tensor_of(dataset.content)
        self.resident = _fits(content, device)
        self._content = content.to(device) if self.resident else content
        self.label_N = tensor_of(dataset.label_N).to(device)
        self.id_N = tensor_of(dataset.id_N).to(device)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.id_N)

    def positions(self, ids: np.ndarray | Tensor) -> Tensor:
        """Return where these ids lie. Shape: (K,) -> int64 (K,) on the device."""
        ids_K = torch.as_tensor(ids, dtype=torch.int64).to(self.device)
        return torch.searchsorted(self.id_N, ids_K)

    def take(self, position_B: Tensor) -> Tensor:
        """Return the content of some rows, on the device."""
        if self.resident:
            return self._content[position_B]
        batch = self._content[position_B.cpu()]
        return batch.pin_memory().to(self.device, non_blocking=True)


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a view of an array that nobody will write to, without torch's warning."""
    with warnings.catch_warnings():
        # Arrays shared by Ray are read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _fits(content: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free_bytes, _ = torch.cuda.mem_get_info(device)
    # Half of what is free: the model, its activations and the optimizer need the rest.
    return content.numel() * content.element_size() < free_bytes // 2
