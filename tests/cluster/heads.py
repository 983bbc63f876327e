"""A real head of a Ray cluster, with dashboard and token, for tests of `ray job submit`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
START_S = 120
HTTP_S = 30
TOKEN, WRONG = "a" * 64, "b" * 64


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head that runs.

    Attributes:
        address: its dashboard.
        environment: of whoever holds its token.
    """

    address: str
    environment: dict[str, str]

    def job(self, *words: str, token: str = TOKEN) -> subprocess.Popen[str]:
        """Start `ray job ...`, as a person types it."""
        return subprocess.Popen(
            ["ray", "job", words[0], "--address", self.address, *words[1:]],
            cwd=ROOT,
            env=self.environment | {"RAY_AUTH_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self, *words: str, token: str = TOKEN) -> tuple[int, str]:
        """Return (exit code, output) of `ray job ...`."""
        process = self.job(*words, token=token)
        out, _ = process.communicate(timeout=START_S)
        return process.returncode, out

    def info(self, job: str) -> dict[str, Any]:
        """Return status, logs and exit code of a job, from where JobSubmissionClient takes them."""
        told, logs = self.asked(f"/api/jobs/{job}"), self.asked(f"/api/jobs/{job}/logs")
        return {
            "status": told["status"], "exit_code": told["driver_exit_code"], "logs": logs["logs"]
        }  # fmt: skip

    def asked(self, path: str) -> Any:
        """Return what the dashboard answers: a `ray` that asks takes seconds to be imported."""
        request = urllib.request.Request(
            self.address + path, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=HTTP_S) as answer:
            return json.loads(answer.read())


@contextmanager
def running_head(**more: str) -> Generator[Head]:
    """Give a head with three CPUs, this environment more, and nothing of it left behind."""
    folder = Path(tempfile.mkdtemp(prefix="rj-", dir="/tmp"))  # a socket's path has 107 bytes
    (folder / "token").write_text(TOKEN)
    environment = _environment(folder) | more
    ports = _free_ports(4)
    command = (
        "ray start --head --block --include-dashboard=true --dashboard-host=127.0.0.1 "
        "--num-cpus=3 --object-store-memory=200000000 --disable-usage-stats "
        f"--port={ports[0]} --dashboard-port={ports[1]} --ray-client-server-port={ports[2]} "
        f"--dashboard-agent-listen-port={ports[3]} --temp-dir={folder}"
    )
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        log = undo.enter_context(open(folder / "head.log", "w+"))
        process = subprocess.Popen(
            command.split(),
            env=environment | {"RAY_AUTH_TOKEN_PATH": str(folder / "token")},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        undo.callback(_end, process)
        head = Head(address=f"http://127.0.0.1:{ports[1]}", environment=environment)
        _wait_for(head, process, folder / "head.log")
        yield head


def _environment(folder: Path) -> dict[str, str]:
    """Return this process's environment without its Ray, and with the interpreter's folder."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return own | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),  # no token of the person who runs the tests, and none left there
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_:
        found = [open_.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _wait_for(head: Head, process: subprocess.Popen[Any], log: Path) -> None:
    end = time.monotonic() + START_S
    while not _answers(head):
        told = log.read_text()
        assert process.poll() is None, f"the head ended: {told}"
        assert time.monotonic() < end, f"the head did not answer: {told}"
        time.sleep(0.5)


def _answers(head: Head) -> bool:
    try:
        return isinstance(head.asked("/api/jobs/"), list)
    except OSError:  # nobody listens yet, or not this part of it
        return False


def _end(process: subprocess.Popen[Any]) -> None:
    """End the head and what it started, by their ids, and nobody else's."""
    try:
        mine = [psutil.Process(process.pid)]
        mine += mine[0].children(recursive=True)
    except psutil.NoSuchProcess:
        return
    process.terminate()
    _, alive = psutil.wait_procs(mine, timeout=15)
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=15)
    process.wait(15)
