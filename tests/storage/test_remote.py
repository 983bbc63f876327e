from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path

import pytest

from raysubset.errors import RunFolderError, Stopped
from raysubset.storage import Remote, remote
from tests.buckets import URI, WORDS, Bucket

PASSING = [
    OSError(WORDS.format("SLOW_DOWN")),
    OSError(WORDS.format("NETWORK_CONNECTION")),
    OSError(WORDS.format("UNKNOWN (HTTP status 503)")),
    OSError(WORDS.format("UNKNOWN (HTTP status 429)")),
    OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
]
LASTING = {
    "make the bucket": OSError(WORDS.format("NO_SUCH_BUCKET")),
    "check the credentials": OSError(WORDS.format("ACCESS_DENIED")),
    "credentials in the environment": OSError(WORDS.format("UNKNOWN (HTTP status 403)")),
    "make room": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "check the address": OSError(WORDS.format("UNKNOWN (HTTP status 301)")),
}


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.random, "uniform", lambda low, high: 0.0)


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_f22_a_fault_that_passes_is_waited_for(error: OSError, bucket: Bucket):
    calls = count()

    def twice(verb: str, name: str) -> None:
        if next(calls) < 2:
            raise error

    bucket.meet = twice
    Remote(URI).write("a/b", b"x")
    assert Remote(URI).read("a/b") == b"x"
    assert next(calls) == 4


@pytest.mark.parametrize("remedy", LASTING)
def test_f22_a_fault_that_lasts_is_told_at_once_with_its_remedy(remedy: str, bucket: Bucket):
    calls = count()

    def always(verb: str, name: str) -> None:
        next(calls)
        raise LASTING[remedy]

    bucket.meet = always
    with pytest.raises(RunFolderError, match=remedy) as told:
        Remote(URI).write("a", b"x")
    assert URI in str(told.value) and "\n" not in str(told.value)
    assert next(calls) == 1


def test_f22_a_fault_that_does_not_pass_ends_at_the_deadline(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    clock = count(0, 0.02)  # thousands of tries
    monkeypatch.setattr(remote.time, "monotonic", lambda: float(next(clock)))

    def always(verb: str, name: str) -> None:
        raise PASSING[0]

    bucket.meet = always
    with pytest.raises(RunFolderError, match="--resume"):
        Remote(URI).read("a")
    assert next(clock) >= remote.RETRY_S


def test_what_was_written_is_read_listed_and_gone_once_deleted(bucket: Bucket, tmp_path: Path):
    folder, large = Remote(URI), tmp_path / "large"
    large.write_bytes(b"abc" * 1000)
    folder.upload(large, "x/large")
    folder.write("x/y/empty", b"")
    assert {n: size for n, (size, _) in folder.list().items()} == {"x/large": 3000, "x/y/empty": 0}
    assert folder.list("x/y").keys() == {"x/y/empty"} and folder.list("nothing") == {}
    assert folder.download("x/large", tmp_path / "back") and not folder.download("z", large)
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    for _ in range(2):
        folder.delete("x/large")
    assert folder.read("x/large") is None and folder.read("x/y/empty") == b""


def test_a_mapped_file_is_uploaded_as_it_is(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "MAP_FROM", 1)
    (tmp_path / "state").write_bytes(b"state")
    Remote(URI).upload(tmp_path / "state", "state")
    assert Remote(URI).read("state") == b"state"


def test_a_signal_in_the_middle_of_a_call_is_no_fault_of_the_store(bucket: Bucket):
    def terminated(verb: str, name: str) -> None:
        raise Stopped("terminated.")

    bucket.meet = terminated
    with pytest.raises(Stopped):
        Remote(URI).write("a", b"x")
