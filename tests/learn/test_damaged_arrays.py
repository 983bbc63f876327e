"""Files that somebody else wrote, damaged at random: read, or refused in a sentence."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raysubset.errors import RaySubsetError
from raysubset.learn.sources.arrays import read_arrays
from raysubset.learn.sources.embeddings import read_embeddings
from raysubset.learn.states import read_state

EMBEDDINGS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
LABELS = np.arange(60) % 3


def npz(path: Path) -> None:
    np.savez_compressed(path, embeddings=EMBEDDINGS, labels=LABELS)


def npy(path: Path) -> None:
    np.save(path, EMBEDDINGS)


def csv(path: Path) -> None:
    path.write_text("a,b,label\n" + "\n".join(f"{i}.5,{i},{i % 3}" for i in range(20)))


def new_torch(path: Path) -> None:
    torch.save({"weight": torch.zeros(4, 4)}, path)


def old_torch(path: Path) -> None:
    torch.save({"weight": torch.zeros(4, 4)}, path, _use_new_zipfile_serialization=False)


def embeddings(path: Path) -> object:
    return read_embeddings(str(path), None, None, "")


def arrays(path: Path) -> object:
    return read_arrays(str(path), "--embeddings")


FILES: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], object]]] = {
    "npz": ("e.npz", npz, embeddings),
    "npy": ("e.npy", npy, arrays),
    "csv": ("e.csv", csv, embeddings),
    "new torch": ("m.pt", new_torch, read_state),
    "old torch": ("m.pth", old_torch, read_state),
}


@pytest.mark.filterwarnings("ignore")  # numpy and torch warn of what the damage looks like
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_read_or_refused_whatever_its_bytes(kind: str, tmp_path: Path):
    name, write, read = FILES[kind]
    write(tmp_path / name)
    whole, refused = (tmp_path / name).read_bytes(), 0
    for seed in range(200):
        draw, content = np.random.default_rng(seed), bytearray(whole)
        if seed % 4:
            content[draw.integers(len(content))] = draw.integers(256)
            content[draw.integers(len(content))] = draw.integers(256)
        else:
            content = content[: draw.integers(len(content))]
        (tmp_path / name).write_bytes(content)
        try:
            read(tmp_path / name)
        except RaySubsetError:
            refused += 1
    assert refused


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000, 1000), }\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as file:
        file.writestr("embeddings.npy", start + header + b"abc")
    with pytest.raises(RaySubsetError, match="write it again"):
        arrays(tmp_path / "e.npz")


def test_narrow_floats_are_widened_without_a_loss(tmp_path: Path):
    for kind in (torch.bfloat16, torch.float8_e4m3fn):
        narrow = torch.from_numpy(EMBEDDINGS).to(kind)
        save_file({"embeddings": narrow, "n": torch.arange(3)}, tmp_path / "e.safetensors")
        found = read_arrays(str(tmp_path / "e.safetensors"), "--embeddings").values
        assert np.array_equal(found["embeddings"], narrow.float().numpy())
        assert found["n"].dtype == np.int64
