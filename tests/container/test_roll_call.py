"""The hosts of a job start together and end together, whoever fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from jobs.container import roll_call
from jobs.container.roll_call import END, JOINED, START, HostLost, Line, RollCall, answer

TOKEN = "a token that both know"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "BEAT_S", 0.05)
    monkeypatch.setattr(roll_call, "FAREWELL_S", 5.0)


@contextmanager
def called(*others: str) -> Generator[tuple[RollCall, tuple[str, int], threading.Event]]:
    """Give a roll call, its address, and the event of a loss."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = ("127.0.0.1", int(free.getsockname()[1]))
    lost = threading.Event()
    roll = RollCall(at, others, TOKEN, lost.set)
    yield roll, at, lost
    roll.dismiss(0)


def heard(line: Line) -> str:
    """Return the next word that is no beat."""
    while not (word := line.hear()):
        pass
    return word


def test_a_host_starts_when_it_is_told_joins_and_hears_how_the_job_ended() -> None:
    with called("b", "c") as (roll, at, lost):
        early = answer(at, "b", TOKEN, seconds=5)
        roll.start()
        assert heard(early) == START
        late = answer(at, "c", TOKEN, seconds=5)  # after the start: told at once
        assert heard(late) == START
        early.say(JOINED)
        late.say(JOINED)
        roll.wait(seconds=5)
        leaving = threading.Thread(target=roll.dismiss, args=(7,))
        leaving.start()
        assert (heard(early), heard(late)) == (f"{END} 7", f"{END} 7")
        early.close()
        late.close()
        leaving.join(5)
        assert not leaving.is_alive() and not lost.is_set()


def test_a_host_that_does_not_come_is_named() -> None:
    with called("b", "c") as (roll, at, _):
        line = answer(at, "b", TOKEN, seconds=5)
        line.say(JOINED)
        with pytest.raises(HostLost, match=r"of 3 hosts, c did not join within 0\.3 s"):
            roll.wait(seconds=0.3)
        line.close()


def test_a_host_that_leaves_is_missed_and_named() -> None:
    with called("b") as (roll, at, lost):
        line = answer(at, "b", TOKEN, seconds=5)
        line.say(JOINED)
        roll.wait(seconds=5)
        line.close()
        assert lost.wait(5) and roll.lost == "b"


def test_a_host_whose_first_one_is_gone_does_not_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = answer(server.getsockname(), "b", TOKEN, seconds=5)
        server.accept()[0].close()
        with pytest.raises(OSError):
            while True:
                line.hear()
        line.close()
        at = server.getsockname()
    with pytest.raises(HostLost, match="did not answer"):
        answer(at, "b", TOKEN, seconds=0)  # nobody listens there any more


def test_a_silent_host_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = answer(server.getsockname(), "b", TOKEN, seconds=5)
        silent = server.accept()[0]
        with pytest.raises(ConnectionError, match="nothing was heard"):
            while True:
                line.hear()
        silent.close()
        line.close()


@pytest.mark.parametrize(("host", "token"), [("b", "a guess"), ("stranger", TOKEN)])
def test_who_does_not_know_the_token_or_is_no_host_is_sent_away(host: str, token: str) -> None:
    with called("b") as (roll, at, lost):
        roll.start()
        line = answer(at, host, token, seconds=5)
        with pytest.raises(OSError):
            while True:
                assert line.hear() == ""
        line.close()
        with pytest.raises(HostLost):
            roll.wait(seconds=0)
        assert not lost.is_set()


def test_a_scan_of_ports_is_sent_away_like_a_stranger() -> None:
    with called("b") as (_, at, lost), socket.create_connection(at, timeout=5) as scanner:
        scanner.sendall(b"b \xff\x16\x03\x01\n")
        while scanner.recv(64):  # beats, until it is closed
            pass
        assert not lost.is_set()
