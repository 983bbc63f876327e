"""The owner of a run folder behind a URI: one writer at a time, told by an object.

A lock of the operating system holds on one machine only. Here the owner writes `.lock.json` with a
random token and counts a heartbeat up in it. Who finds one watches its counter: it moves, so its
owner lives; it stands still, so it is taken over, with a number one higher. No clocks of two
machines are compared. A writer looks for its own token before it writes anything, so one that was
taken for dead stops in a sentence instead of committing. Where its last heartbeat comes late and
covers the claim of the next owner, the higher number wins.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raysubset.errors import RunFolderError
from raysubset.storage.remote import Remote

LOCK = ".lock.json"
BEAT_S = 3.0
WATCH_S = 12.0
"""An owner's counter may stand still this long: some beats, for a busy process is no dead one."""
SETTLE_S = 0.2
"""Two that found no owner both write; after this the one whose token stands goes on."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who writes: what `.lock.json` holds.

    Attributes:
        token: of one taking, random: the fence.
        host: where the owner runs.
        pid: its process there.
        since: when it began, for people.
        lock: the machine's boot and the local lock file: whoever holds the same one knows that
            its owner before is gone.
        beat: counted up while the owner lives.
        number: one more than that of the owner that was taken over; 1 where there was none.
    """

    token: str
    host: str
    pid: int
    since: str
    lock: str
    beat: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"

    @classmethod
    def mine(cls, local_lock: Path) -> Claim:
        """Return a new claim of this process, which holds a local lock file."""
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            lock=_identity(local_lock),
        )


class Owner:
    """This process as the one writer of a remote folder, until `release`.

    Attributes:
        claim: what it wrote.
        took_over: whether from an owner that may only stand still.
    """

    def __init__(self, remote: Remote, local_lock: Path) -> None:
        """Take the folder, from nobody or from an owner that is gone.

        Args:
            remote: the folder.
            local_lock: a lock file of this machine that this process holds for the same folder.

        Raises:
            RunFolderError: another owner lives; it is named.
        """
        self.remote, self.claim = remote, Claim.mine(local_lock)
        self._beat, self._ended = 0, threading.Event()
        self._lost, self._asking = "", threading.RLock()
        self.took_over = False
        before = read_claim(remote)
        if before is not None and before.lock != self.claim.lock:
            _refuse_living(remote, before)
            self.took_over = True
        self.claim = replace(self.claim, number=1 if before is None else before.number + 1)
        self._write()
        time.sleep(SETTLE_S)
        self.check()
        self._thread = threading.Thread(target=self._keep, name="run-folder-owner", daemon=True)
        self._thread.start()

    def check(self, within_s: float | None = None) -> None:
        """Refuse to go on where another process took the folder over."""
        with self._asking:
            self.refuse_lost()
            there = read_claim(self.remote, within_s)
            if there is not None and there.number < self.claim.number:
                self._write(within_s)  # a late word of the owner before
            elif there is None or there.token != self.claim.token:
                who = "nobody's any more" if there is None else f"taken over by {there}"
                self._lost = (
                    f"run folder {self.remote} is {who}, so this process writes nothing more to "
                    "it; what was committed before is kept."
                )
                self._ended.set()
            self.refuse_lost()

    def refuse_lost(self) -> None:
        """Refuse to go on where it is known that another process took over; it asks nobody."""
        if self._lost:
            raise RunFolderError(self._lost)

    def release(self) -> None:
        """Leave the folder to whoever comes next."""
        self._ended.set()
        self._thread.join(4 * BEAT_S)
        with suppress(RunFolderError):  # a lock that stays is taken over
            self.check(BEAT_S)
            self.remote.delete(LOCK, within_s=BEAT_S)

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(RunFolderError), self._asking:  # in trouble: the next beat tries again
                self._beat_once()

    def _beat_once(self) -> None:
        start_s = _now_s()
        self.check(BEAT_S)
        self._beat += 1
        self._write(BEAT_S)
        if _now_s() - start_s > WATCH_S / 2:
            # This process stood still, so another may be the owner, under the beat just written:
            # nothing is written here before it had the time to say so.
            time.sleep(2 * BEAT_S)
            self.check(BEAT_S)

    def _write(self, within_s: float | None = None) -> None:
        told = {**vars(self.claim), "beat": self._beat}
        self.remote.write(LOCK, (json.dumps(told, sort_keys=True) + "\n").encode(), within_s)


def read_claim(remote: Remote, within_s: float | None = None) -> Claim | None:
    """Return who owns a folder; None for nobody, or for a claim that is no claim."""
    content = remote.read(LOCK, within_s)
    try:
        told: Any = json.loads(content) if content else None
        return Claim(**told) if isinstance(told, dict) else None
    except (ValueError, TypeError):
        return None


def _refuse_living(remote: Remote, before: Claim) -> None:
    """Watch an owner's counter; refuse where it moves, or where another owner comes first."""
    deadline = time.monotonic() + WATCH_S
    while True:
        last = time.monotonic() >= deadline  # before the look: this process may stand still too
        there = read_claim(remote)
        if there is None:
            return  # it ended by itself
        if there != before:
            raise RunFolderError(
                f"run folder {remote} is in use by {there}; wait for it, or choose another "
                "--run-dir."
            )
        if last:
            return
        time.sleep(min(BEAT_S / 2, WATCH_S / 4))


def _now_s() -> float:
    """Return a clock that never jumps; where there is one, it also counts a machine's sleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _identity(path: Path) -> str:
    """Return what tells a file of a running system from every other: boot, device and inode."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    told = path.stat()
    # Where the system does not tell its boot, nobody is the same: then the counter decides.
    name = boot.read_text().strip() if boot.is_file() else secrets.token_hex(8)
    return f"{name}:{told.st_dev}:{told.st_ino}"
