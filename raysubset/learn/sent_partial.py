"""Kept epochs by value: for processes that do not see the folder where they are kept."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysubset.files import sealed, unsealed, write_atomically, write_json
from raysubset.learn.checkpoint import file_hash
from raysubset.learn.partial import (
    MANIFEST,
    Finished,
    Open,
    Partial,
    forget_others,
    write_partial,
)
from raysubset.scratch import scratch_folder


@dataclass(frozen=True, kw_only=True, eq=False)
class SentPartial:
    """What `write_partial` would write.

    Attributes:
        told: the manifest.
        content: name -> bytes, of the files that are new in it.
    """

    told: Mapping[str, Any]
    content: Mapping[str, np.ndarray]

    @property
    def state(self) -> str:
        """The name of the state: no two have the same."""
        return self.told["state"]

    @classmethod
    def of(cls, open_: Open, before: Partial | None, finished: Finished) -> SentPartial:
        """Return the files that `write_partial` would write, bit for bit."""
        with scratch_folder() as folder:
            here = replace(open_, folder=str(folder))
            write_partial(here, before, finished)
            told = unsealed(json.loads((folder / MANIFEST).read_bytes()))
            new = [name for name in told["files"] if (folder / name).is_file()]
            content = {name: np.fromfile(folder / name, np.uint8) for name in new}
        return cls(told=told, content=content)

    def partial(self, folder: str) -> Partial:
        """Return it as it stands once it is written to a folder."""
        return Partial(folder=folder, **self.told)

    def write(self, open_: Open) -> None:
        """Write and fsync the files, the manifest last; what was kept is whole until then.

        Raises:
            OSError: they do not read as they were sent, or earlier ones are not there.
        """
        folder = Path(open_.folder)
        if self.told["key"] != open_.key:
            raise OSError(errno.EINVAL, "it belongs to another round")
        if _manifest(folder) == self.told:
            return  # sent twice: what it names is being read perhaps
        for name, content in self.content.items():
            path = folder / name
            if folder.resolve() not in path.resolve().parents:
                raise OSError(errno.EINVAL, f"{name} does not lie in its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda p, content=content: p.write_bytes(content.data))
        for name, digest in self.told["files"].items():
            if file_hash(folder / name) != digest:
                raise OSError(errno.EIO, f"{name} does not read as it was sent")
        write_json(folder / MANIFEST, sealed(self.told))
        forget_others(folder, self.told["files"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What the driver tells of a round that a rank cannot look into.

    Attributes:
        partial: what is kept; None: nothing.
        content: [ref of its checkpoint with the bytes].
        gone: whether the order is not to be done any more.
    """

    partial: Partial | None = None
    content: Sequence[Any] = field(default=())
    gone: bool = False


def _manifest(folder: Path) -> Any:
    try:
        return unsealed(json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError):
        return None
