from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import RunFolderError
from raysubset.storage import Remote, owner
from raysubset.storage.owner import LOCK, Owner
from raysubset.storage.staging import staged
from tests.buckets import URI, Bucket


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT_S", 0.02)
    monkeypatch.setattr(owner, "WATCH_S", 0.4)


def claim(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).touch()
    return tmp_path / name


def abandon(folder: Remote, **other: Any) -> None:
    """Leave the claim of an owner that is gone, of another machine."""
    told = {"token": "t", "host": "far", "pid": 7, "since": "then", "lock": "boot:1:2", "beat": 3}
    told["number"] = 2
    folder.write(LOCK, json.dumps({**told, **other}).encode())


def test_f26_an_owner_that_lives_is_named_to_the_next(bucket: Bucket, tmp_path: Path):
    first = Owner(Remote(URI), claim(tmp_path, "a"))
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on "):
        Owner(Remote(URI), claim(tmp_path, "b"))
    first.check()
    first.release()
    Owner(Remote(URI), claim(tmp_path, "b")).release()
    assert Remote(URI).list() == {}


def test_f26_an_owner_whose_counter_stands_still_is_taken_over_with_a_higher_number(
    bucket: Bucket, tmp_path: Path
):
    abandon(Remote(URI))
    taken = Owner(Remote(URI), claim(tmp_path, "a"))
    assert taken.took_over and json.loads(Remote(URI).read(LOCK) or b"")["number"] == 3
    taken.release()


def test_f26_who_watches_and_stands_still_itself_takes_no_living_owners_folder(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its deadline passes right after a look, and the owner's counter moves meanwhile."""
    first = Owner(Remote(URI), claim(tmp_path, "a"))
    first._ended.set()
    first._thread.join()
    now, looks, read = [0.0], list[int](), owner.read_claim

    def stand_still(remote: Remote, within_s: float | None = None) -> Any:
        found = read(remote, within_s)
        looks.append(len(looks))
        if len(looks) == 2:  # the first is for who is there at all
            now[0] = 1e6
            first._beat_once()
        return found

    monkeypatch.setattr(owner, "read_claim", stand_still)
    monkeypatch.setattr(owner.time, "monotonic", lambda: now[0])
    with pytest.raises(RunFolderError, match="in use by"):
        Owner(Remote(URI), claim(tmp_path, "b"))


def test_f26_a_late_beat_of_the_owner_before_takes_nothing_back(bucket: Bucket, tmp_path: Path):
    abandon(Remote(URI))
    taken = Owner(Remote(URI), claim(tmp_path, "a"))
    abandon(Remote(URI), beat=4)  # it had looked, then stood still, then wrote
    taken.check()
    assert json.loads(Remote(URI).read(LOCK) or b"")["token"] == taken.claim.token
    taken.release()


def test_f26_an_owner_that_stood_still_under_its_beat_waits_for_who_took_over(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stale = Owner(Remote(URI), claim(tmp_path, "a"))
    stale._ended.set()
    stale._thread.join()
    clock = iter([0.0, 1e6])
    monkeypatch.setattr(owner, "_now_s", lambda: next(clock))
    monkeypatch.setattr(owner.time, "sleep", lambda _: abandon(Remote(URI)))
    with pytest.raises(RunFolderError, match="taken over by process 7 on far"):
        stale._beat_once()
    with pytest.raises(RunFolderError, match="taken over by process 7 on far"):
        stale.check()


def test_an_owner_of_this_machine_whose_lock_is_free_is_not_waited_for(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = claim(tmp_path, "a")
    before = Owner(Remote(URI), lock)
    before._ended.set()  # as a process that was killed: no beat, and its claim stays
    monkeypatch.setattr(owner, "_refuse_living", lambda *_: pytest.fail("waited"))
    Owner(Remote(URI), lock).release()
    with pytest.raises(RunFolderError, match="nobody's any more"):
        before.check()


def test_a_claim_that_is_no_claim_belongs_to_nobody(bucket: Bucket, tmp_path: Path):
    for content in (b"", b"[]", b"{", b'{"token": 1}'):
        Remote(URI).write(LOCK, content)
        Owner(Remote(URI), claim(tmp_path, "a")).release()


def test_f26_an_owner_that_was_taken_over_neither_beats_nor_releases(
    bucket: Bucket, tmp_path: Path
):
    stale = Owner(Remote(URI), claim(tmp_path, "a"))
    abandon(Remote(URI))
    with pytest.raises(RunFolderError, match="taken over by process 7 on far"):
        stale.check()
    stale._thread.join(5)
    stale.release()
    assert json.loads(Remote(URI).read(LOCK) or b"")["token"] == "t"


def test_two_processes_of_one_machine_do_not_share_a_staging_folder(bucket: Bucket):
    with staged(URI) as folder:
        with pytest.raises(RunFolderError, match=f"run folder {URI} is in use by process"):
            with staged(URI):
                pass
        with staged(URI, write=False) as beside:
            assert beside != folder


def test_staging_is_closed_to_others_and_gone_afterwards(bucket: Bucket, tmp_path: Path):
    with staged(URI) as folder:
        closed = [p for p in folder.parents if tmp_path / "tmp" in p.parents]
        assert (closed[-1].stat().st_mode & 0o777) == 0o700
    assert not folder.exists()


def test_a_staging_root_of_somebody_else_is_refused(bucket: Bucket, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp" / f"raysubset-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="not this user's"):
        with staged(URI):
            pass
