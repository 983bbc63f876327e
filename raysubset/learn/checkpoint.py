"""Checkpoints: weights as safetensors, optimizer and counters through torch.save, both hashed.

Nothing read here can execute code: safetensors by format, torch.load with weights_only=True.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import shutil
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysubset.errors import RunFolderError
from raysubset.faultpoints import reach
from raysubset.scratch import scratch_folder

WEIGHTS, TRAINER = "weights.safetensors", "trainer.pt"
_LITTLE = 4 << 20  # bytes: where a disk has less, a write that failed is one for lack of room
Files = dict[str, str]
"""File name -> SHA-256."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRef:
    """Where a committed state lies.

    Attributes:
        path: the folder.
        files: name -> SHA-256, from the manifest; checked before anything is parsed.
        content: name -> the file's bytes, for a process that does not see the folder.
    """

    path: str
    files: Mapping[str, str]
    content: Mapping[str, np.ndarray] | None = None

    def with_content(self) -> CheckpointRef:
        """Return the same checkpoint with its bytes: it can be read anywhere."""
        content = {name: np.frombuffer(_checked(self, name), np.uint8) for name in self.files}
        return replace(self, content=content)


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """A copy of the training state at the end of a round, on the host.

    Attributes:
        weights: the model's state by name.
        trainer: optimizer and counters.
        flat: the weights once more, packed, where they are views of it.
    """

    weights: dict[str, Tensor]
    trainer: dict[str, Any]
    flat: np.ndarray | None = None


def write_checkpoint(folder: str | Path, snapshot: Snapshot) -> tuple[Files, float]:
    """Write a snapshot and fsync it; return its files with their SHA-256, and the seconds."""
    from safetensors.torch import save_file

    start, folder = perf_counter(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    reach("state.begun")
    with system_errors(folder / WEIGHTS):
        save_file(snapshot.weights, folder / WEIGHTS)
    with ThreadPoolExecutor(2, thread_name_prefix="fsync") as disk:
        synced = [disk.submit(_sync, folder / WEIGHTS)]
        reach("state.half")
        with system_errors(folder / TRAINER):
            torch.save(snapshot.trainer, folder / TRAINER)
        synced.append(disk.submit(_sync, folder / TRAINER))
        # Beside the disk: its wait costs no CPU, and a hash nothing else.
        files = {name: file_hash(folder / name) for name in (WEIGHTS, TRAINER)}
        for each in synced:
            each.result()
    reach("state.written")
    return files, perf_counter() - start


@contextmanager
def system_errors(path: Path) -> Generator[None]:
    """Raise as `OSError` what a library made of one while it wrote a file.

    safetensors keeps its number in a sentence; torch.save says where it stood and no more, so a
    disk with little room left is told to be full.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if told := re.search(r"os error (\d+)", str(error)):
            number = int(told[1])
        elif shutil.disk_usage(path.parent).free < _LITTLE:
            number = errno.ENOSPC
        else:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Sent:
    """A checkpoint by value, from a process that does not see the run folder.

    Attributes:
        files: name -> SHA-256, where it was made.
        content: name -> the file's bytes.
    """

    files: Files
    content: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Sent:
        """Return the files that `write_checkpoint` would write, bit for bit."""
        with scratch_folder() as folder:
            # A file, because torch.save puts its name into it: the hash is the same everywhere.
            files, _ = write_checkpoint(folder, snapshot)
            content = {name: np.fromfile(Path(folder) / name, np.uint8) for name in files}
        return cls(files=files, content=content)

    def write(self, folder: str | Path) -> tuple[Files, float]:
        """Write and fsync the files here, as `write_checkpoint` does.

        Raises:
            OSError: they do not read as they were sent.
        """
        start, folder = perf_counter(), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in self.files.items():
            (folder / name).write_bytes(self.content[name].data)
            _sync(folder / name)
            if file_hash(folder / name) != digest:
                raise OSError(errno.EIO, f"{name} does not read as it was sent")
        return self.files, perf_counter() - start


def read_weights(ref: CheckpointRef) -> dict[str, Tensor]:
    """Return the weights of a checkpoint whose hash is right.

    Raises:
        RunFolderError: it is not what was recorded, or no safetensors though it is.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _checked(ref, WEIGHTS)
    try:
        return load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _forged(ref, WEIGHTS, error) from None


def read_trainer(ref: CheckpointRef) -> dict[str, Any]:
    """Return the optimizer state and counters of a checkpoint whose hash is right."""
    content = io.BytesIO(_checked(ref, TRAINER))
    try:
        return torch.load(content, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise RunFolderError(
            f"checkpoint {Path(ref.path) / TRAINER} holds more than tensors and numbers, so it is "
            "not loaded: it could run code. Remove its round folder and resume."
        ) from None
    except Exception as error:  # torch's reader ends in whatever way it happens to
        raise _forged(ref, TRAINER, error) from None


def _forged(ref: CheckpointRef, name: str, error: Exception) -> RunFolderError:
    """Return the error of a file that no writer of ours made, though a manifest names its hash."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return RunFolderError(
        f"checkpoint {Path(ref.path) / name} has the hash of its manifest and cannot be read "
        f"({reason}): both were replaced. Remove its round folder and resume."
    )


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(ref: CheckpointRef, name: str) -> bytes:
    path = Path(ref.path) / name
    try:
        content = path.read_bytes() if ref.content is None else ref.content[name].tobytes()
    except OSError as error:
        raise RunFolderError(f"checkpoint {path} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(content).hexdigest() != ref.files[name]:
        raise RunFolderError(
            f"checkpoint {path} is not what its manifest recorded (SHA-256 differs); it was "
            "damaged or replaced. Remove its round folder and resume from the round before."
        )
    return content
