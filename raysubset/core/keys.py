"""Randomness without a stream: a key, hashed with an id, gives that id's random number.

Neither the number of shards, nor the order of rows, nor a retry can change a draw, because
nothing is consumed: the number belongs to (key, id) for ever.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: splitmix64's odd increment
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def derive_key(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit key for one purpose of one seed, the same on every machine and version."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def hash_ids(ids_N: Tensor, key: int) -> Tensor:
    """Return one well-mixed int64 per id (Steele, Lea, Flood: splitmix64, OOPSLA 2014).

    Shape: int64 (N,) -> int64 (N,). int64 products wrap on every device, as the hash needs.
    """
    state = ids_N.to(torch.int64) * _GAMMA + key
    state = (state ^ _shift_right(state, 30)) * _MIX_1
    state = (state ^ _shift_right(state, 27)) * _MIX_2
    return state ^ _shift_right(state, 31)


def uniform(ids_N: Tensor, key: int) -> Tensor:
    """Return one float64 in [0, 1) per id, with 53 random bits. Shape: (N,) -> (N,)."""
    return _shift_right(hash_ids(ids_N, key), 11).to(torch.float64) * 2.0**-53


def permute(ids_N: Tensor, key: int) -> Tensor:
    """Return the ids in their random order under `key`; the order given does not matter."""
    # splitmix64 maps distinct ids to distinct hashes: there are no ties to break.
    return ids_N[torch.sort(hash_ids(ids_N, key)).indices]


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift of int64 copies the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
