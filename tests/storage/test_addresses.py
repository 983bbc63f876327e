from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from raysubset.cli import call
from raysubset.errors import RunFolderError
from raysubset.storage import Remote, holds, is_uri, probe
from raysubset.storage.staging import staged
from tests.buckets import Bucket

SECRET = "h0rse"
WITH_CREDENTIALS = [
    f"s3://AKIA:{SECRET}@bucket/run",
    f"s3://AKIA:{SECRET}/slash@bucket/run",
    f"s3://{SECRET}@bucket/run",
    f"s3://bucket/run?secret_key={SECRET}",
    f"s3://bucket/run?endpoint_override=http://me:{SECRET}@host",
    f"gs://{SECRET}@bucket/run",
    f"abfs://account:{SECRET}@container/run",
    f"abfs://container@account/run?client_secret={SECRET}",
]
USELESS = {
    "s3://bucket": "whole bucket",
    "s3:///run": "no bucket",
    "http://host/run": "no storage that is known",
    "hdfs://host/run": "no storage that is known",
    "s3://bucket/run#1": "%23",
    "file:///": "whole bucket",
    "file://shared/run": "file:///shared/run",
    "S3://bucket/run": "small letters",
    "s3://bucket/my run": "s3://bucket/my%20run",
    "s3://bucket/100%/run": "s3://bucket/100%25/run",
    "s3://bucket/\u00fc": "%C3%BC",
    "s3://[bucket/run": "no address",
}


@pytest.mark.parametrize("uri", WITH_CREDENTIALS)
def test_f30_credentials_in_a_uri_are_refused_before_any_work_and_never_repeated(
    uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raysubset.preparation.prepare", lambda *_: pytest.fail("work was done"))
    for words in (["run", "--run-dir"], ["frontier", "--run-dir"], ["export"], ["report"]):
        assert call([*words, uri])[0] == 2
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert told.err.count("environment") == 4


@pytest.mark.parametrize("uri", USELESS)
def test_an_address_that_can_be_no_run_folder_is_refused_with_the_remedy(uri: str):
    with pytest.raises(RunFolderError, match=USELESS[uri]):
        probe(uri)


def test_anonymous_and_a_container_before_the_at_are_no_credentials():
    for uri in ("gs://anonymous@bucket/run", "abfs://container@account.dfs.core.windows.net/run"):
        assert str(Remote(uri)) == uri


def test_a_folder_below_keeps_the_options_of_the_address():
    below = Remote("s3://bucket/run?region=eu-west-1") / "trials" / "glister-0.1"
    assert str(below) == "s3://bucket/run/trials/glister-0.1?region=eu-west-1"


def test_paths_are_no_addresses():
    assert not any(map(is_uri, ("runs/x", "/mnt/x", "C:/x", "a:b/c", Path("s3:/x"))))
    assert all(map(is_uri, ("s3://b/x", "gs://b/x", "file:///x", "http://x/y")))


def test_f22_a_probe_leaves_nothing_and_makes_no_folder(bucket: Bucket, tmp_path: Path):
    assert probe("s3://bucket/run") >= 0
    assert [p for p in bucket.folder.rglob("*") if p.is_file()] == []
    assert len(bucket.changes) == 2
    assert probe(tmp_path / "not" / "yet") >= 0
    assert not (tmp_path / "not").exists()


def test_a_probe_of_what_gives_back_other_bytes_fails(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Remote, "read", lambda *_: b"other")
    with pytest.raises(RunFolderError, match="other bytes"):
        probe("s3://bucket/run")


def test_a_probe_of_a_path_that_cannot_be_written_names_it():
    with pytest.raises(RunFolderError, match=r"/proc/run cannot be written"):
        probe("/proc/run")


def test_what_a_folder_holds_is_seen_by_path_and_uri(bucket: Bucket, tmp_path: Path):
    for place in (tmp_path / "plain", "s3://bucket/run"):
        assert not holds(place, "experiment.yaml")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "experiment.yaml").touch()
    Remote("s3://bucket/run").write("experiment.yaml", b"x")
    for place in (tmp_path / "plain", str(tmp_path / "plain"), "s3://bucket/run"):
        assert holds(place, "experiment.yaml")


def test_f27_staging_lies_inside_its_own_folder_whatever_the_address_holds(tmp_path: Path):
    away = tmp_path / "away"
    for name in (str(away).replace("/", "%2F"), "%2e%2e/%2e%2e/%2e%2e/x", "a/%2E%2E/../b"):
        with staged(f"file://{tmp_path}/store/{name}") as folder:
            assert folder.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
            assert f"raysubset-{os.getuid()}" in folder.resolve().parts
            assert not away.exists()
