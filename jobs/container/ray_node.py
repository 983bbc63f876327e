"""One host's Ray, as a child process that ends with us, and the token that its nodes share."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.container.platform_job import PlatformJob
from raysubset.errors import ConfigError, RaySubsetError

PORT, EXTRA_WORDS = "RAYSUBSET_RAY_PORT", "RAYSUBSET_RAY_START"
"""Variables: the first host's Ray port (6379; the roll call takes the next one), and more words
for `ray start`, such as "--num-cpus=8 --min-worker-port=20000 --max-worker-port=20999"."""

STARTED = "Ray runtime started."
STOP_S = 20.0


class RayNodeFailed(RaySubsetError):
    """`ray start` that did not start, or ended before the job did."""


class RayNode:
    """A `ray start --block` of this host; all that it started ends with it."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        extra = shlex.split(environ.get(EXTRA_WORDS, ""))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *extra],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environ),
            start_new_session=True,  # a signal to our group must let us end before Ray does
        )
        self._up = threading.Event()
        self._last_words: deque[str] = deque(maxlen=20)
        threading.Thread(target=self._read, name="ray-start", daemon=True).start()

    def is_up(self, seconds: float = 0.0) -> bool:
        """Return whether the node has started, waiting a little for it.

        Raises:
            RayNodeFailed: it ended; with its last words.
        """
        up = self._up.wait(seconds)
        if self._process.poll() is not None:
            for line in self._last_words:
                print(line, end="", file=sys.stderr)
            why = next((line for line in reversed(self._last_words) if line.strip()), "no word")
            raise RayNodeFailed(
                f"`ray start` ended with exit code {self._process.returncode}: {why.strip()}"
            )
        return up

    def wait(self, seconds: float) -> None:
        """Wait until the node has started.

        Raises:
            RayNodeFailed: it did not in time.
        """
        for _ in range(round(seconds)):
            if self.is_up(1.0):
                return
        raise RayNodeFailed(f"`ray start` was not done within {seconds:g} s on this host.")

    def close(self) -> None:
        """End the node and everything that it started."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_words.append(line)
            if STARTED in line:
                self._up.set()


@contextmanager
def ray_node(words: Sequence[str], environ: Mapping[str, str]) -> Generator[RayNode]:
    """Start a node, and end it."""
    node = RayNode(words, environ)
    try:
        yield node
    finally:
        node.close()


def head_words(address: str, port: int) -> list[str]:
    """Return how the first host starts its Ray: on the job's network only, without a dashboard.

    --node-ip-address: the address that the job's own name of this host stands for; it is what the
    other hosts are told. (Ray still listens on all interfaces: the token and the network guard it.)
    --no-monitor: nothing here scales.
    """
    return ["--head", f"--node-ip-address={address}", f"--port={port}", "--no-monitor", *_QUIET]


def joining_words(address: str, first: str, port: int) -> list[str]:
    """Return how another host starts its Ray and joins the first one."""
    return [f"--address={first}:{port}", f"--node-ip-address={address}", _QUIET[1]]


_QUIET = ("--include-dashboard=false", "--disable-usage-stats")


def address_of(host: str) -> str:
    """Return the address that the job's name of a host stands for.

    Raises:
        OSError: the name is not known (yet).
    """
    return socket.gethostbyname(host)


def token_of(job: PlatformJob, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the token of the job's Ray, and what a person should know about it ("" for nothing).

    The hosts of a job share no secret of their own, so in this order:

    1. RAY_AUTH_TOKEN of the job's environment. Whoever may describe the job can read it there.
    2. The file in the input channel `token`: a secret as good as its storage. The best one.
    3. One host: a random one that nobody else needs to know.
    4. Several: a digest of the job's ARN or name, its hosts and hyperparameters, equal on all of
       them. It keeps out whoever reaches the ports by chance or by a scan. It does NOT keep out
       one who may describe the job: that is left to the network (a security group of the job's
       own; encrypted traffic between its containers).

    Raises:
        ConfigError: several hosts without a name of the job to digest.
    """
    if given := environ.get("RAY_AUTH_TOKEN"):
        return given, ""
    if (folder := job.channels.get("token")) is not None:
        return _only_file(folder), ""
    if len(job.hosts) == 1:
        return secrets.token_hex(32), ""
    if not job.name:
        raise ConfigError(
            "the hosts share no token: give an input channel named token that holds one file "
            "with a long random text, the same for all hosts."
        )
    told = [job.name, job.hosts, dict(job.hyperparameters)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return digest, (
        "Ray's token is derived from the job's description: it keeps strangers out, not those who "
        "may describe this job. For a secret one, give an input channel named token."
    )


def _only_file(folder: Path) -> str:
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    text = files[0].read_text(encoding="utf-8").strip() if len(files) == 1 else ""
    if len(text) < 16:
        raise ConfigError(
            f"the input channel token must hold one file with a text of at least 16 characters; "
            f"{folder} holds {len(files)} file(s)."
        )
    return text


def with_token(environ: Mapping[str, str], token: str, folder: Path) -> dict[str, str]:
    """Return the environment of every Ray process, the token in a file that only we can read."""
    path = folder / "auth_token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token)
    cleared = {k: v for k, v in environ.items() if k not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    token_set = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    # Ray Train would ask Ray for notices of preemption, and nobody gives Ray any here.
    return {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", **cleared, **token_set}
