"""What one machine tells about itself: versions, token, open ports, GPUs, a folder.

Only the standard library, and plain values in and out: this module is sent to nodes by value, so
that a node with another raysubset, or with none, still answers. No secret leaves it: of a token
nothing is read but where it lies and who may read it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import platform
import shutil
import subprocess
import sys
import uuid
from importlib import import_module, metadata
from typing import Any

PACKAGES = ("raysubset", "ray", "torch", "numpy", "pyarrow")
GPU_QUERY_S = 10
LISTENING = "0A"  # the state of a socket in /proc/net/tcp


def look(ports: list[int], folder: str | None, nonce: tuple[str, str] | None) -> dict[str, Any]:
    """Return the facts of the machine that this runs on.

    Args:
        ports: whose listening addresses are asked for.
        folder: is written to, read from and cleaned, if it is there; None for no probe.
        nonce: (name, text) of a file that the driver wrote into the folder, to see whether it is
            the same folder here.
    """
    return {
        "host": platform.node(),
        "versions": versions(),
        "auth": auth_mode(),
        "token": token(),
        "listening": {str(port): listening(port) for port in ports},
        "gpus": gpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cores": os.cpu_count() or 1,
        "storage": None if folder is None else probe_folder(folder, nonce),
        "spill": spill_disk(),
    }


def versions() -> dict[str, str | None]:
    """Return what is installed, None for what is not."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    if found["raysubset"] is None:
        # A job's working folder is no installed package, and yet it is what would run.
        with contextlib.suppress(ImportError):
            found["raysubset"] = str(import_module("raysubset").__version__)
    return found


def auth_mode() -> str | None:
    """Return "token" or "disabled", as the Ray process of this machine has it; None if unknown."""
    raylet = sys.modules.get("ray._raylet")
    mode = getattr(raylet, "get_authentication_mode", None)
    if raylet is None or mode is None:
        return None
    return "token" if mode() == raylet.AuthenticationMode.TOKEN else "disabled"


def token() -> dict[str, Any]:
    """Return where this machine's token lies, and the mode of its file; never the token."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return {"source": "environment", "path": None, "mode": None}
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    try:
        mode = os.stat(path).st_mode & 0o777
    except OSError:
        return {"source": "none", "path": path, "mode": None}
    return {"source": "file", "path": path, "mode": mode}


def listening(port: int) -> list[str]:
    """Return the addresses at which a port of this machine listens; empty also without /proc."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            for fields in map(str.split, lines):
                if len(fields) > 3 and fields[3] == LISTENING:
                    raw, _, number = fields[1].partition(":")
                    if int(number, 16) == port:
                        found.add(_address(raw))
    return sorted(found)


def gpus() -> list[dict[str, Any]]:
    """Return name, total and free bytes of each NVIDIA GPU; asked of its driver, nothing starts."""
    fields = "name,memory.total,memory.free"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=GPU_QUERY_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[dict[str, Any]] = []
    for line in told.splitlines():
        name, total, free = (part.strip() for part in line.rsplit(",", 2))
        if total.isdigit() and free.isdigit():
            sizes = {"total_bytes": int(total) << 20, "free_bytes": int(free) << 20}
            found.append({"name": name, **sizes})
    return found


def spill_disk() -> dict[str, Any]:
    """Return where Ray writes what its object store cannot hold, and how full that disk is."""
    node = getattr(getattr(sys.modules.get("ray"), "_private", None), "worker", None)
    node = getattr(node, "_global_node", None)
    folder = node.get_temp_dir_path() if node is not None else None
    folder = folder or os.path.join(os.environ.get("RAY_TMPDIR") or "/tmp", "ray")
    there = folder if os.path.isdir(folder) else os.path.dirname(folder)
    try:
        disk = shutil.disk_usage(there)
    except OSError:
        return {"folder": folder, "used": None}
    return {"folder": folder, "used": 1 - disk.free / disk.total if disk.total else None}


def probe_folder(folder: str, nonce: tuple[str, str] | None) -> dict[str, Any]:
    """Write a file, read it, delete it; say whether the driver's own file is seen here too."""
    shared: bool | None = None
    if nonce is not None:
        shared = False
        with contextlib.suppress(OSError), open(os.path.join(folder, nonce[0])) as file:
            shared = file.read() == nonce[1]
    name = os.path.join(folder, f".raysubset-doctor-{uuid.uuid4().hex}")
    error, free = None, None
    try:
        try:
            with open(name, "x") as file:
                file.write(name)
            with open(name) as file:
                if file.read() != name:
                    error = "what was written is not what is read"
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        free = shutil.disk_usage(folder).free
    except OSError as failure:
        error = f"{type(failure).__name__}: {failure.strerror or failure}"
    return {"error": error, "shared": shared, "free_bytes": free}


def _address(raw: str) -> str:
    """Return the address that /proc writes as little-endian words of four bytes."""
    data = bytes.fromhex(raw)
    turned = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    address = ipaddress.ip_address(turned)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
