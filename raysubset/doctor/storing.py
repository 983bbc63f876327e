"""Storage: whether a run folder can be written, from where, and whether all see the same one."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raysubset.doctor.facts import NodeFacts
from raysubset.doctor.finding import Finding, failed, ok, warning
from raysubset.doctor.within import Late, within
from raysubset.errors import RaySubsetError
from raysubset.files import KINDS, nearest_folder
from raysubset.storage import holds, is_uri, probe

STORE_S = 45.0


@dataclass(frozen=True, kw_only=True)
class DriverProbe:
    """What this process could do in the run folder.

    Attributes:
        shown: the place, as it may be shown.
        error: why it could not be used; None where it could.
        uri: whether it is an address rather than a path.
        folder: for a path, the nearest folder that is there.
        nonce: (name, text) of the file left there while nodes look, and gone afterwards.
        free: bytes that are free of its disk, or of that of its local copy; None: not known.
        used: whether a run, a frontier or a selection lies there already.
    """

    shown: str
    error: str | None = None
    uri: bool = False
    folder: str | None = None
    nonce: tuple[str, str] | None = None
    free: int | None = None
    used: bool = False

    @property
    def disk(self) -> str:
        """What `free` is of: a run behind a URI is written here first."""
        return f"{tempfile.gettempdir()}, for the local copy" if self.uri else self.shown


@contextmanager
def driver_probe(place: str, shown: str) -> Generator[DriverProbe]:
    """Try the place from here; for a path, leave a file for the nodes to find until the end."""
    uri = is_uri(place)
    try:
        within(STORE_S, lambda: probe(place), "probe")
        used = within(STORE_S, lambda: any(holds(place, mark) for mark in KINDS), "probe")
    except (RaySubsetError, Late) as error:
        yield DriverProbe(shown=shown, error=str(error), uri=uri)
        return
    if uri:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        yield DriverProbe(shown=shown, uri=True, free=free, used=used)
        return
    folder = nearest_folder(Path(place).absolute())
    nonce = f".raysubset-doctor-{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        (folder / nonce[0]).write_text(nonce[1])
        free = shutil.disk_usage(folder).free
        yield DriverProbe(shown=shown, folder=str(folder), nonce=nonce, free=free, used=used)
    finally:
        with suppress(OSError):
            os.unlink(folder / nonce[0])


def check_storage(driver: DriverProbe, nodes: Sequence[NodeFacts]) -> Finding:
    """Judge the driver's probe, and what other nodes saw of the same path."""
    if driver.error is not None:
        return failed("storage", driver.error, _ELSEWHERE)
    if driver.used:
        found = f"{driver.shown} is used already: a run there goes on, and no new one begins"
        return warning("storage", found, _USED)
    if driver.uri:
        found = f"{driver.shown}: written, read and deleted from here; only the driver goes there"
        return ok("storage", found)
    seen = {node.name: node.probe for node in nodes if node.probe is not None}
    facts = {name: {"error": p.error, "same_folder": p.shared} for name, p in seen.items()}
    apart = [name for name, found in seen.items() if found.shared is False]
    barred = [name for name, found in seen.items() if found.error is not None]
    if apart or barred:
        told = f"{driver.shown} is another folder on {', '.join(apart)}"
        if not apart:
            told = f"{driver.shown} cannot be written on {', '.join(barred)}"
        found = f"{told}: checkpoints travel through the driver, which is slower"
        return warning("storage", found, _SHARED, nodes=facts)
    same = f", the same folder on {len(facts)} nodes" if len(facts) > 1 else ""
    return ok("storage", f"{driver.shown}: written, read and deleted{same}", nodes=facts)


_ELSEWHERE = "choose another --run-dir, or give this user the right to write there"
_SHARED = "put --run-dir on storage that every node mounts, or behind s3:// or gs://"
_USED = "give the run --resume to go on there, or choose another --run-dir"
