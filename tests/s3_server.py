"""A real S3 server on this machine (moto's, over HTTP), with the faults that real ones have."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from raysubset.storage import Remote

Answer = Callable[[dict[str, Any], Any], Iterable[bytes]]
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",  # no look for a machine's role
}


class S3Server:
    """moto's S3 in threads of this process; what it holds outlives a stop.

    Attributes:
        requests: (verb, path) of what came, in order.
        meet: called with (verb, path) before each request; may return how to fail it.
    """

    _buckets = count()  # of this process: what moto holds does too

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.requests = list[tuple[str, str]]()
        self.meet: Callable[[str, str], Answer | None] = lambda verb, path: None

    def start(self) -> None:
        """Listen, at the port of before."""
        from werkzeug.serving import make_server

        self._server = make_server(
            "127.0.0.1", self.port, self._answer, threaded=True, request_handler=_quiet()
        )
        self._server.daemon_threads = True
        # Whoever connects and is gone before it is let in leaves nobody to let in: not for ever.
        self._server.socket.settimeout(0.1)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        if self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._thread = None

    def bucket(self) -> str:
        """Return the address of a run folder in a bucket of its own."""
        name = f"bucket-{next(self._buckets)}"
        store = pafs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{self.port}", scheme="http", allow_bucket_creation=True
        )
        store.create_dir(name)
        return self.address(f"{name}/run")

    def address(self, place: str) -> str:
        """Return the URI by which a person names a place on a server of their own."""
        return f"s3://{place}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def _answer(self, environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        verb, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((verb, path))
        answer = self.meet(verb, path) or self._moto
        return answer(environ, respond)


def _quiet() -> type:
    """Return werkzeug's handler of requests without its line for each."""
    from werkzeug.serving import WSGIRequestHandler

    class Quiet(WSGIRequestHandler):
        timeout = 300.0  # for a client that stands still in the middle of a request

        def log(self, type: str, message: str, *args: Any) -> None:
            """Say nothing."""

    return Quiet


def refused(status: str, code: str) -> Answer:
    """Return how a request is refused, as S3 words it."""

    def answer(environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>as told by a test</Message></Error>".encode()
        respond(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return answer


def cut(environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
    """Close the connection of a request without a word."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def held(until: threading.Event, then: Answer = cut) -> Answer:
    """Return how a request is left without an answer until an event."""

    def answer(environ: dict[str, Any], respond: Any) -> Iterable[bytes]:
        until.wait(300)
        return then(environ, respond)

    return answer


def copy_of(uri: str, folder: Path) -> Path:
    """Return a local copy of all that a run folder on the server holds."""
    remote = Remote(uri)
    remote.download_all(list(remote.list()), folder)
    return folder


@contextmanager
def running() -> Generator[S3Server]:
    """Give a server, and this process the credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setitem(os.environ, name, value)
        server = S3Server()
        server.start()
        try:
            yield server
        finally:
            server.stop()
