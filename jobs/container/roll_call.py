"""The roll call: how the hosts of a job start together, and end together.

One connection per host to the first one. The first host says when its Ray is up, every host says
when it has joined, and the end is told with the exit code. Between words both sides send beats, so
that a host which is gone is missed in seconds, or in SILENCE_S where its machine vanished.

A host proves that it knows the job's token, which itself never crosses the network here.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from raysubset.errors import RaySubsetError

logger = logging.getLogger(__name__)
BEAT_S, SILENCE_S, FAREWELL_S = 1.0, 60.0, 15.0
START, JOINED, END = "start", "joined", "end"


class HostLost(RaySubsetError):
    """A host that did not come, or left before the end.

    No `Stopped`: a run that ends with it waits for no checkpoint, whose writer may be the lost one.
    """


class Line:
    """A connection between two hosts that carries words."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(BEAT_S)
        self._connection, self._rest = connection, b""
        self._said = self._heard = time.monotonic()
        self._one_at_a_time = threading.Lock()

    def say(self, word: str) -> None:
        """Send a word; an empty one is a beat."""
        with self._one_at_a_time:
            self._connection.sendall(word.encode() + b"\n")
            self._said = time.monotonic()

    def hear(self) -> str:
        """Return the next word, "" where none comes in BEAT_S; send a beat where one is due.

        Raises:
            OSError: the other host is gone, or silent for SILENCE_S.
        """
        if time.monotonic() - self._said > BEAT_S:
            self.say("")
        if b"\n" not in self._rest:
            try:
                received = self._connection.recv(4096)
            except TimeoutError:
                if time.monotonic() - self._heard > SILENCE_S:
                    raise ConnectionError(f"nothing was heard for {SILENCE_S:g} s") from None
                return ""
            if not received:
                raise ConnectionError("the other host is gone")
            self._heard = time.monotonic()
            self._rest += received
        word, _, self._rest = self._rest.partition(b"\n")
        return word.decode(errors="replace")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class RollCall:
    """The first host's end of the lines."""

    def __init__(
        self, at: tuple[str, int], others: Iterable[str], token: str, on_loss: Callable[[], object]
    ) -> None:
        """Listen for the other hosts.

        Args:
            at: address and port.
            others: the names of the other hosts.
            token: the job's token; a host that does not know it is sent away.
            on_loss: called from a thread when a host that had come is gone.
        """
        self._others, self._token, self._on_loss = frozenset(others), token, on_loss
        self._lines: dict[str, Line] = {}
        self._joined: set[str] = set()
        self._started, self._over = False, False
        self._news = threading.Condition()
        self.lost = ""
        self._server = socket.create_server(at)
        self._in_background(self._listen)

    def start(self) -> None:
        """Tell every host, now and later, that the first host's Ray is up."""
        with self._news:
            self._started = True
            lines = list(self._lines.values())
        for line in lines:
            line.say(START)

    def wait(self, seconds: float) -> None:
        """Wait until every host has joined.

        Raises:
            HostLost: some did not in time; names them.
        """
        end = time.monotonic() + seconds
        with self._news:
            while missing := self._others - self._joined:
                if time.monotonic() > end:
                    raise HostLost(
                        f"of {len(self._others) + 1} hosts, {', '.join(sorted(missing))} did not "
                        f"join within {seconds:g} s; look at their logs, and at the network "
                        "between them (all TCP ports among the job's hosts must be open)."
                    )
                self._news.wait(1.0)

    def dismiss(self, code: int) -> None:
        """Tell every host that the job ended with an exit code, and wait a while for them."""
        with self._news:
            self._over = True
            lines = list(self._lines.values())
        for line in lines:
            with suppress(OSError):  # it is gone already
                line.say(f"{END} {code}")
        end = time.monotonic() + FAREWELL_S
        with self._news:
            while self._lines and time.monotonic() < end:
                self._news.wait(0.5)
        self._server.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed: the end
            self._in_background(self._attend, Line(connection))

    def _attend(self, line: Line) -> None:
        """Keep one line until its host is gone."""
        host = ""
        try:
            host = self._name_of(line)
            while host:
                if line.hear() == JOINED:
                    with self._news:
                        self._joined.add(host)
                        self._news.notify_all()
        except OSError as error:
            logger.info("host %s: %s", host or "unknown", error)
        finally:
            line.close()
            self._forget(host)

    def _name_of(self, line: Line) -> str:
        """Return who has come; "" for one that cannot prove it."""
        hello = ""
        while not hello:
            hello = line.hear()
        host, _, proof = hello.partition(" ")
        # As bytes: of text, a TypeError refuses what is not ASCII, as a scan of ports sends it.
        right = hmac.compare_digest(proof.encode(), proof_of(host, self._token).encode())
        with self._news:
            if not right or host not in self._others or self._over:
                return ""
            self._lines[host] = line
            started = self._started
        if started:
            line.say(START)
        return host

    def _forget(self, host: str) -> None:
        with self._news:
            known = self._lines.pop(host, None) is not None
            unexpected = known and not self._over
            if unexpected:
                self.lost = host
            self._news.notify_all()
        if unexpected:
            self._on_loss()

    def _in_background(self, work: Callable[..., None], *values: object) -> None:
        threading.Thread(target=work, args=values, name="roll-call", daemon=True).start()


def answer(to: tuple[str, int], host: str, token: str, seconds: float) -> Line:
    """Return the line of a host that has reported to the first one, tried for so many seconds.

    Raises:
        HostLost: nobody answered.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            line = Line(socket.create_connection(to, timeout=10))
        except OSError as error:  # not up yet, or its name is not known yet
            if time.monotonic() > end:
                raise HostLost(
                    f"the first host, {to[0]}, did not answer at port {to[1]} within {seconds:g} "
                    f"s ({error}); look at its log."
                ) from None
            time.sleep(0.5)
        else:
            line.say(f"{host} {proof_of(host, token)}")
            return line


def proof_of(host: str, token: str) -> str:
    """Return what only a host that knows the token can say with its name."""
    return hmac.new(token.encode(), host.encode(), hashlib.sha256).hexdigest()
