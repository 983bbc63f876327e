"""The round in progress, mirrored: finished epochs survive the machine that trained them.

What `unfinished` and `learn.partial` keep in rounds/0007/partial is uploaded by a thread that looks
at its manifest: files first, then the manifest, then what it no longer names is deleted, so that
the store holds one whole state whatever comes in between. It is an insurance: a store in trouble
costs a warning, and nobody who trains waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from raysubset.errors import Stopped
from raysubset.faultpoints import reach
from raysubset.learn.partial import BEGUN, MANIFEST
from raysubset.storage.staging import Staging, staging_of

logger = logging.getLogger(__name__)
LOOK_S = 1.0
"""How often the manifest is looked at; a round that is shorter costs no request."""
TRY_S = 5.0
"""How long one object is tried for; the next look tries again."""
END_S = 60.0
"""How long a commit or a stop waits for the one object that is on its way."""
PINNED = ".sending"


class Mirror:
    """What a run mirrors of its open round; does nothing where its folder is a plain path."""

    def __init__(self) -> None:
        """Mirror nothing yet."""
        self._sender: _Sender | None = None

    def begin(self, folder: Path) -> None:
        """Fetch what is kept of a round that was begun; mirror what will be, until `end`."""
        self._stop()
        if (staging := staging_of(folder)) is not None:
            self._sender = _Sender(staging, folder)
            self._sender.start()

    def end(self, folder: Path) -> None:
        """Drop what is kept of a round that is committed, here and in the store."""
        self._stop()
        if (staging := staging_of(folder)) is not None:
            with _Insured("%s is left over in the store", folder):
                staging.drop(folder, TRY_S)
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Upload the last that is kept of a round that is not committed."""
        sender = self._sender
        self._stop()
        if sender is not None:
            sender.finish()

    def _stop(self) -> None:
        if self._sender is not None:
            self._sender.stop()
            self._sender = None


class _Sender:
    """Sends one round's folder; one thread at a time.

    Attributes:
        sent: names below the folder that the store holds.
        told: the manifest that the store holds.
    """

    def __init__(self, staging: Staging, folder: Path) -> None:
        self.staging, self.folder = staging, folder
        self.remote = staging.remote / staging.name_of(folder)
        self.sent, self.told = staging.below(folder), b""
        self._stale = not staging.is_kept(folder / BEGUN[0])
        self._ended, self._quiet = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="mirror", daemon=True)

    def start(self) -> None:
        """Have the kept epochs of the same beginning here, then look on."""
        manifest = self.folder / MANIFEST
        if not self._stale and manifest.is_file():
            with _Insured("kept epochs of %s cannot be fetched", self.folder):
                # Only what the store listed: a manifest names no place outside its folder.
                files = self.sent & set(_named(manifest.read_bytes()))
                self.staging.fetch_files([self.folder / name for name in files])
                self.told = manifest.read_bytes()
        self._thread.start()

    def stop(self) -> None:
        """Send no more objects, but for one that is on its way."""
        self._ended.set()
        self._thread.join(END_S)
        self.staging.know(self.folder, self.sent)

    def finish(self) -> None:
        """Send what is still to be sent."""
        if self._thread.is_alive():
            logger.warning("the store does not answer; the last epochs of %s are not there", self)
            return
        with _Insured("finished epochs of %s are not in the store", self.folder):
            self._send_all(last=True)
        self.staging.know(self.folder, self.sent)

    def __str__(self) -> str:
        return str(self.remote)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            insured = _Insured("finished epochs of %s are not in the store", self.folder)
            with insured if not self._quiet else suppress(Exception):
                self._send_all()
                self._quiet = False
            self._quiet |= insured.happened  # one warning for each time of trouble

    def _send_all(self, *, last: bool = False) -> None:
        """Make the store what the folder is; unless it is the last time, only until `stop`."""
        for name in self._to_do():
            if self._ended.is_set() and not last:
                return
            self._send(self.folder / name, name)
        path = self.folder / MANIFEST
        manifest = path.read_bytes() if path.is_file() else b""
        if manifest and manifest != self.told:
            self._send_state(manifest, last=last)

    def _to_do(self) -> Iterable[str]:
        """Return what the round was begun with and is not there; another beginning's goes first."""
        if self._stale:
            self._delete(self.sent)
            self._stale = False
        # Reversed: round.json holds the hash of the other one.
        return [name for name in reversed(BEGUN) if name not in self.sent]

    def _send_state(self, manifest: bytes, *, last: bool) -> None:
        named = _named(manifest)
        pinned = self._pin(name for name in named if name not in self.sent)
        try:
            for name in pinned:
                if self._ended.is_set() and not last:
                    return
                self._send(pinned[name], name)
            self._check()
            reach("mirror.files")
            self.remote.write(MANIFEST, manifest, TRY_S, again=self._check)
            self.sent.add(MANIFEST)
            self.told = manifest
            reach("mirror.manifest")
        finally:
            shutil.rmtree(self.folder / PINNED, ignore_errors=True)
        self._delete(self.sent - {*named, *BEGUN, MANIFEST})

    def _pin(self, names: Iterable[str]) -> dict[str, Path]:
        """Return second names of files: the trainer may delete the first ones meanwhile.

        Else a store that is slower than an epoch would never get a whole state.
        """
        pinned: dict[str, Path] = {}
        shutil.rmtree(self.folder / PINNED, ignore_errors=True)
        (self.folder / PINNED).mkdir()
        for number, name in enumerate(names):
            path = pinned[name] = self.folder / PINNED / str(number)
            try:
                os.link(self.folder / name, path)
            except FileNotFoundError:
                raise
            except OSError:  # a disk without hard links
                shutil.copyfile(self.folder / name, path)
        return pinned

    def _send(self, path: Path, name: str) -> None:
        self._check()
        self.remote.upload(path, name, TRY_S, again=self._check)
        self.sent.add(name)

    def _delete(self, names: Iterable[str]) -> None:
        for name in sorted(names, key=lambda n: (n != MANIFEST, n)):
            self._check()
            self.remote.delete(name, TRY_S, again=self._check)
            self.sent.discard(name)

    def _check(self) -> None:
        self.staging.check_owner(self.folder, TRY_S)


class _Insured:
    """Turns what goes wrong with an insurance into a warning."""

    def __init__(self, what: str, folder: Path) -> None:
        self.what, self.folder, self.happened = what, folder, False

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        # Any: arrow, an SDK and the disk raise whatever is at hand; a person's stop is none of it.
        self.happened = isinstance(error, Exception) and not isinstance(error, Stopped)
        if self.happened:
            logger.warning(f"{self.what}: %s", self.folder, error)
        return self.happened


def _named(manifest: bytes) -> list[str]:
    return list(json.loads(manifest)["files"])
