"""Data behind URIs is the same data on disk: rows, keys, ids, whole runs; fetched once, whole."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.cli import call
from raysubset.doctor.reading import read
from raysubset.errors import DataError, RaySubsetError
from raysubset.experiment import Experiment, nest
from raysubset.preparation import Prepared, load_data, prepare
from raysubset.storage import Remote, fetching, remote
from raysubset.storage.faults import DATA
from tests.learn.sources_on_disk import png, write_file, write_images, write_table
from tests.s3_server import S3Server, cut, refused, running
from tests.small_runs import Left, assert_same_run

SMALL: dict[str, Any] = {
    "model.name": "mlp",
    "training.epochs": 2,
    "selection.select_every": 1,
    "selection.fraction": 0.4,
    "selection.glister.picks": "blocks(3)",
    "selection.batch_size": 16,
    "resources.workers": 1,
}
COMMAND = ["--local", *(word for name, v in SMALL.items() for word in (f"--{name}", str(v)))]


class Store:
    """A bucket of its own on the server, and a folder of the same content.

    Attributes:
        folder: the local twin.
    """

    def __init__(self, server: S3Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.remote = Remote(server.bucket(), DATA)
        self._asked = len(server.requests)

    def uri(self, name: str = "") -> str:
        return str(self.remote / name) if name else self.remote.uri

    def put(self) -> None:
        """Upload what lies in the local folder."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                self.remote.write(path.relative_to(self.folder).as_posix(), path.read_bytes())
        self._asked = len(self.server.requests)

    def got(self) -> list[str]:
        """Return the names of the objects that were downloaded since, in order."""
        start = self.remote.uri.removeprefix("s3:/").partition("?")[0] + "/"
        since = self.server.requests[self._asked :]
        return [path.removeprefix(start) for verb, path in since if verb == "GET" and start in path]


@pytest.fixture(scope="module")
def server() -> Generator[S3Server]:
    with running() as server:
        yield server


@pytest.fixture
def store(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Store]:
    """Give a store; no wait between tries, temporary folders in the test's own."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(remote.random, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("tmp", "here", "twin"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield Store(server, tmp_path / "twin")
    server.meet = lambda verb, path: None
    assert left_over(tmp_path) == []


def left_over(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "tmp").glob("raysubset-*/*")]


def images(folder: Path, count: int = 12, *, bad: bool = False) -> None:
    """Write class folders, with what nobody reads beside them."""
    for number, name in enumerate(("cat", "dog", "eel & co")):
        for i in range(count):
            inner = "deep/er" if i % 5 == 0 else "."
            write_file(folder / name / inner / f"{i:02d}.png", png(100 * number + i))
    write_file(folder / ".hidden" / "x.png", b"no image")
    write_file(folder / "cat" / ".DS_Store", b"no image")
    write_file(folder / "_SUCCESS", b"")
    if bad:
        write_file(folder / "dog" / "torn.png", png(1)[:40])


def table(path: Path, rows: int, seed: int = 0, **columns: Any) -> None:
    draw = np.random.default_rng(seed)
    numbers = {name: draw.normal(size=rows).round(6) for name in ("a", "b")}
    kinds = np.array(["x", "y", "z"])[np.arange(rows) % 3]
    write_table(path, {**numbers, "kind": kinds, "label": np.arange(rows) % 3, **columns})


def an_image_folder(at: Path) -> dict[str, str]:
    images(at / "animals", bad=True)
    return {"path": "animals"}


def a_whole_bucket(at: Path) -> dict[str, str]:
    images(at)
    return {"path": ""}


def image_parquet_with_parts(at: Path) -> dict[str, str]:
    for part, count, seed in (("train-00000", 24, 0), ("train-00001", 12, 50), ("test-0", 9, 90)):
        pixels: list[bytes | None] = [png(seed + i) for i in range(count)]
        write_images(at / "pets" / f"{part}.parquet", pixels, [i % 3 for i in range(count)])
    write_file(at / "pets" / "README.md", b"pets")
    return {"path": "pets"}


def a_csv_with_labels_beside(at: Path) -> dict[str, str]:
    table(at / "sheet.csv", 60)
    write_table(at / "labels" / "new.csv", {"y": [("up", "down")[i % 2] for i in range(60)]})
    return {"path": "sheet.csv", "labels": "labels/new.csv", "label_column": "y"}


def parts_in_the_folder_itself(at: Path) -> dict[str, str]:
    """A test file in the folder of the data is no train file, and read once."""
    for seed, name in enumerate(("one", "two", "held")):
        table(at / "my rows" / f"{name}.parquet", 30, seed)
    table(at / "elsewhere" / "v.parquet", 15, 9)
    return {
        "path": "my rows",
        "test": "my rows/held.parquet",
        "validation": "elsewhere/v.parquet",
    }


def trusted_labels_with_holes(at: Path) -> dict[str, str]:
    trusted = [None if i % 10 == 0 else i % 3 for i in range(90)]
    table(at / "t.parquet", 90, right=trusted)
    return {"path": "t.parquet", "validation_label_column": "right"}


FORMS = [
    an_image_folder,
    a_whole_bucket,
    image_parquet_with_parts,
    a_csv_with_labels_beside,
    parts_in_the_folder_itself,
    trusted_labels_with_holes,
]
FILES = ("path", "labels", "validation", "tuning", "test")


def experiment(**data: Any) -> Experiment:
    own = {f"data.{name}": value for name, value in data.items()}
    return Experiment.of(nest({**SMALL, "data.on_bad_row": "skip", **own}))


def told(ready: Prepared, root: str) -> Any:
    """Return all that a run says of its rows, with `root` for where they lie."""
    parts = ready.problem.parts
    rows = [
        (part.name, part.keys, part.id_N.tolist(), part.feature_names)
        for part in (parts.pool, parts.validation, parts.test)
    ]
    said = json.dumps([ready.identity, ready.notes, repr(parts.skipped)])
    return ready.identity, rows, said.replace(root, "ROOT")


@pytest.mark.parametrize("form", FORMS)
def test_data_behind_a_uri_is_the_same_data_on_disk(form: Any, store: Store):
    """A whole bucket is called by its own name, and so is its twin."""
    bucket = store.uri().partition("?")[0].removeprefix("s3://")
    if form is a_whole_bucket:
        bucket = bucket.partition("/")[0]
        store.folder = store.folder / bucket
        store.remote = Remote(store.uri().replace("/run?", "?"), DATA)
    options = form(store.folder)
    store.put()
    by_path = {k: str(store.folder / v) if k in FILES else v for k, v in options.items()}
    by_uri = {k: store.uri(v) if k in FILES else v for k, v in options.items()}
    here = told(prepare(experiment(**by_path)), str(store.folder))
    assert told(prepare(experiment(**by_uri)), f"s3://{bucket}") == here
    assert "ROOT" in here[2] or form not in (an_image_folder, trusted_labels_with_holes)
    got = store.got()
    assert len(got) == len(set(got)) and not [name for name in got if "/." in name or "_S" in name]


def test_sources_of_a_uri_travel_to_other_processes(store: Store):
    options = trusted_labels_with_holes(store.folder)
    store.put()
    sources = load_data(experiment(**{**options, "path": store.uri(options["path"])}))
    again = pickle.loads(pickle.dumps(sources))
    assert again.trusted.row_name(4) == f"{store.uri().partition('?')[0]}/t.parquet row 4"


def test_a_run_of_a_uri_is_the_run_of_the_folder_and_records_the_address_alone(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images(store.folder / "animals", bad=True)
    store.put()
    left = dict[str, Left]()
    uri = store.uri("animals")
    for place in (uri, str(store.folder / "animals")):
        skip = ["--data", place, "--data.on_bad_row", "skip"]
        code, value = call(["run", *skip, *COMMAND])
        assert code == 0
        left[place] = Left(Path(value[1]))
    assert_same_run(*left.values())
    run = left[uri].path
    stored = Experiment.of(Experiment.read(run / "experiment.yaml"))
    assert stored.data.path == uri and run.name.startswith("animals-glister")
    assert store.uri().partition("?")[0] in (run / "skipped.csv").read_text()
    out = capsys.readouterr()
    texts = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    for text in [*texts, (out.out + out.err).encode()]:
        assert str(tmp_path / "tmp").encode() not in text

    assert call(["run", "--resume", "--run-dir", str(run), "--local"])[0] == 0
    store.remote.write("animals/dog/00.png", png(7))
    assert call(["run", "--resume", "--run-dir", str(run), "--local"])[0] == 2
    assert "data" in capsys.readouterr().err


def test_a_table_whose_columns_changed_behind_its_uri_is_refused_by_name(
    store: Store, capsys: pytest.CaptureFixture[str]
):
    table(store.folder / "t.csv", 60)
    store.put()
    code, value = call(["run", "--data", store.uri("t.csv"), *COMMAND])
    assert code == 0
    text = (store.folder / "t.csv").read_text().replace('"kind"', '"sort"', 1)
    store.remote.write("t.csv", text.encode())
    assert call(["run", "--resume", "--run-dir", str(value[1]), "--local"])[0] == 2
    said = capsys.readouterr().err
    assert "sort" in said and "kind" in said and "raysubset-" not in said


def test_a_comparison_and_a_frontier_that_draws_rows_anew_fetch_once(store: Store):
    images(store.folder / "animals", 8)
    store.put()
    data = ["--data", store.uri("animals")]
    few = "--fractions 0.5 --strategies random --seeds 2 --max-drop none --no-controls".split()
    words = [word for word in COMMAND if word not in ("--selection.fraction", "0.4")]
    for command in (["compare", *COMMAND], ["frontier", *few, *words, "--data.limit", "20"]):
        store._asked = len(store.server.requests)
        code, _ = call([*command, *data])
        assert code == 0
        assert sorted(store.got()) == sorted(set(store.got())) and len(store.got()) == 24


def test_doctor_reads_bad_rows_and_the_others_from_one_copy(store: Store):
    images(store.folder / "animals", 12, bad=True)
    store.put()
    asked = experiment(path=store.uri("animals"), on_bad_row="refuse")
    found = read(asked, 60.0)
    first = found.findings[0]
    assert found.prepared is not None and first.status == "failed"
    assert f"{store.uri('animals').partition('?')[0]}/dog/torn.png" in first.found
    assert len(store.got()) == len(set(store.got())) == 37


def test_a_file_address_is_its_path_and_is_not_copied(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    images(store.folder / "my animals")
    path = store.folder / "my animals"
    monkeypatch.setattr("raysubset.storage.data.fetch", lambda *_: pytest.fail("copied"))
    by_uri = prepare(experiment(path=f"file://{path}".replace(" ", "%20")))
    assert told(by_uri, "") == told(prepare(experiment(path=str(path))), "")


def test_embeddings_and_a_head_behind_uris_choose_what_the_files_choose(
    store: Store, tmp_path: Path
):
    draw = np.random.default_rng(0)
    embeddings = draw.normal(size=(90, 4))
    embeddings[5] = np.nan
    np.savez(store.folder / "e.npz", embeddings=embeddings, labels=np.arange(90) % 3)
    np.savez(store.folder / "h.npz", weight=draw.normal(size=(3, 4)), bias=np.zeros(3))
    store.put()
    chosen = list[Any]()
    for place, name in ((store.uri, "a"), (lambda n: str(store.folder / n), "b")):
        options = ["--embeddings", place("e.npz"), "--head", place("h.npz")]
        skip = ["--data.on_bad_row", "skip", "--run-dir", str(tmp_path / name)]
        assert call(["select", "--local", *options, *skip])[0] == 0
        chosen.append((tmp_path / name / "ids.txt").read_text())
    assert chosen[0] == chosen[1]
    written = "".join(p.read_text() for p in (tmp_path / "a").glob("*.[cj]s*"))
    assert str(tmp_path / "tmp") not in written and "/e.npz" in written


# ---- a store in trouble


def test_slow_downs_and_cut_connections_are_waited_out_and_change_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "CHUNK", 100)  # images of several reads each
    images(store.folder / "animals")
    store.put()
    draw, slow = random.Random(0), refused("503 Slow Down", "SlowDown")
    met = list[Any]()

    def now_and_then(verb: str, path: str) -> Any:
        met.append(draw.choice((slow, cut)) if draw.random() < 0.2 else None)
        return met[-1]

    store.server.meet = now_and_then
    there = prepare(experiment(path=store.uri("animals")))
    assert len([fault for fault in met if fault]) > 5
    assert there.identity == prepare(experiment(path=str(store.folder / "animals"))).identity


def _unsigned_is_refused(server: S3Server) -> Any:
    def answer(environ: dict[str, Any], respond: Any) -> Any:
        if "HTTP_AUTHORIZATION" in environ:
            return server._moto(environ, respond)
        return refused("403 Forbidden", "AccessDenied")(environ, respond)

    return lambda verb, path: answer


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("denied", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("no credentials", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("nothing there", "check the names of the bucket and the folder"),
        ("no bucket", "check the names of the bucket and the folder"),
        ("hidden files alone", "with visible files"),
        ("an option that is none", "check the address"),
    ],
)
def test_a_cause_that_lasts_is_told_at_once_with_the_address_and_the_remedy(
    why: str,
    remedy: str,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    write_file(store.folder / "hidden" / ".x", b"x")
    write_file(store.folder / "hidden" / "_SUCCESS", b"")
    images(store.folder / "animals")
    store.put()
    monkeypatch.setattr(remote.time, "sleep", lambda _: pytest.fail("it was tried again"))
    uri = store.uri("animals")
    if why == "denied":
        store.server.meet = lambda verb, path: refused("403 Forbidden", "AccessDenied")
    elif why == "no credentials":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delitem(os.environ, name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        store.server.meet = _unsigned_is_refused(store.server)
    elif why == "no bucket":
        uri = store.server.address("nowhere/animals")
    elif why == "an option that is none":
        uri += "&colour=red"
    else:
        uri = store.uri("hidden" if why.startswith("hidden") else "anim")
    assert call(["run", "--data", uri, *COMMAND])[0] == 2
    said = capsys.readouterr().err
    assert f"--data={uri.partition('?')[0]}" in said and remedy in said
    assert said.count("\n") == 1 and store.got() == []


def test_a_server_that_stays_away_ends_in_a_sentence_at_the_deadline(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "FIRST_S", 0.0)
    store.server.meet = lambda verb, path: cut
    assert call(["run", "--data", store.uri("animals"), *COMMAND])[0] == 2
    assert "check the network and the name, the region" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["longer", "same size", "gone", "more"])
def test_data_that_changes_while_it_is_read_is_refused(
    how: str, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    monkeypatch.setattr(fetching, "AT_ONCE", 1)
    table(store.folder / "t" / "train.csv", 200)
    whole = (store.folder / "t" / "train.csv").read_bytes()
    store.put()
    seen = list[str]()

    def meet(verb: str, path: str) -> None:
        if verb == "GET" and path.endswith("train.csv"):
            seen.append(path)
            if len(seen) == 2:  # between two reads of it
                store.server.meet = lambda verb, path: None
                change()

    def change() -> None:
        if how == "gone":
            store.remote.delete("t/train.csv")
        elif how == "more":
            store.remote.write("t/train2.csv", whole)
        else:
            store.remote.write("t/train.csv", whole[::-1] if how == "same size" else whole * 2)

    store.server.meet = meet
    with pytest.raises(DataError, match=r"t/train2?\.csv.* changed while it was read; run"):
        load_data(experiment(path=store.uri("t")))
    assert len(seen) == 2


def test_too_little_room_is_refused_before_the_first_byte(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    images(store.folder / "animals")
    store.put()
    usage = fetching.shutil.disk_usage(store.folder)._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"MB are read through .* 0\.0 MB are free .* TMPDIR"):
        load_data(experiment(path=store.uri("animals")))
    assert store.got() == []


@pytest.mark.parametrize("name", ["a/../../../../out.png", "a//b.png", "cat/1.png/2.png"])
def test_names_that_no_file_can_have_are_refused_and_nothing_is_written_outside(
    name: str, store: Store, tmp_path: Path
):
    from moto.s3.models import s3_backends

    write_file(store.folder / "animals" / "cat" / "1.png", png(1))
    store.put()
    backend = next(b for account in s3_backends.values() for b in account.values() if b.buckets)
    bucket = store.uri().split("/")[2]
    backend.put_object(bucket, f"run/animals/{name}", b"x")
    with pytest.raises(DataError, match="no file of this machine can be called"):
        load_data(experiment(path=store.uri("animals")))
    assert store.got() == [] and not list(tmp_path.rglob("out.png"))


def test_a_long_fetch_says_how_far_it_is(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetching, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(fetching, "LINE_S", 0.0)
    table(store.folder / "t.csv", 60)
    table(store.folder / "v.csv", 30)
    store.put()
    data = ["--data", store.uri("t.csv"), "--data.validation", store.uri("v.csv")]
    assert call(["run", *data, *COMMAND])[0] == 0
    lines = capsys.readouterr().err.splitlines()
    named = f"{store.uri('t.csv')}, {store.uri('v.csv')}"
    assert lines[0].startswith(f"fetching {named}: ") and "ETA" in lines[0]
    assert lines[-1].startswith(f"fetched {named}: ")


def test_a_stop_ends_a_fetch_and_takes_its_folder_away(store: Store, tmp_path: Path):
    images(store.folder / "animals", 20)
    store.put()

    def meet(verb: str, path: str) -> Any:
        if verb == "GET" and path.endswith(".png"):
            store.server.meet = lambda verb, path: cut  # nothing more gets through
            os.kill(os.getpid(), signal.SIGTERM)
            return cut
        return None

    store.server.meet = meet
    assert call(["run", "--data", store.uri("animals"), *COMMAND])[0] == 75
    assert left_over(tmp_path) == []


def test_the_first_file_that_cannot_be_had_ends_those_that_are_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    images(store.folder / "animals")
    store.put()
    ended, late = list[str](), list[str]()
    others = threading.Semaphore(0)

    def read_range(self: Remote, name: str, start: int, count: int, again: Any) -> Any:
        if name == "cat/01.png":
            assert others.acquire(timeout=60)  # another one is being tried
            raise DataError("cannot be read")
        others.release()
        for _ in range(5_000):
            try:
                again()
            except RaySubsetError:
                ended.append(name)
                raise
            time.sleep(0.001)
        late.append(name)
        raise DataError("nobody ended it")

    monkeypatch.setattr(Remote, "read_range", read_range)
    with pytest.raises(DataError, match=r"^cannot be read$"):
        load_data(experiment(path=store.uri("animals")))
    assert ended and not late


# ---- addresses

REFUSED = {
    "https://host/pets.zip": "download it first",
    "hdfs://host/pets": "no storage that is known",
    "s3:///pets": "no bucket",
    "s3://bucket/my pets": "s3://bucket/my%20pets",
    "s3://bucket/a/../b": "an empty step, . or .. in it",
    "s3://bucket/a//b": "an empty step",
    "S3://bucket/pets": "small letters",
    "s3://bucket/pets#1": "%23",
    "file:///": "name a folder in it",
    "file://host/pets": "file:///host/pets",
    "file:///nowhere/pets": "no such file or folder",
    "s3://AKIA:h0rse@bucket/pets": "must hold no credentials",
    "abfs://c:h0rse@account.dfs.core.windows.net/pets": "must hold no credentials",
    "s3://bucket/pets?secret_key=h0rse": "must hold no credentials",
}


@pytest.mark.parametrize("option", ["--data", "--data.test", "--data.labels"])
@pytest.mark.parametrize("uri", REFUSED)
def test_an_address_that_names_no_data_is_refused_with_the_remedy(
    uri: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "filesystem_of", lambda *_: pytest.fail("the network was asked"))
    base = [] if option == "--data" else ["--data", "file:///nowhere"]
    assert call(["run", "--local", *base, option, uri])[0] == 2
    said = capsys.readouterr().err
    assert REFUSED[uri] in said and "h0rse" not in said


def test_a_container_before_the_at_is_no_secret_and_is_shown():
    from raysubset.redaction import redacted

    for uri in ("abfs://pets@account.dfs.core.windows.net/x", "gs://anonymous@bucket/x"):
        assert experiment(path=uri).data.path == uri
        assert redacted(f"error: --data={uri} is not there") == f"error: --data={uri} is not there"


def test_labels_behind_a_uri_name_their_column_in_one_word(tmp_path: Path):
    options = a_csv_with_labels_beside(tmp_path)
    by_path = {k: str(tmp_path / v) if k in FILES else v for k, v in options.items()}
    uris = {k: (tmp_path / v).as_uri() for k, v in options.items() if k in FILES}
    one_word = uris | {"labels": f"{uris['labels']}:{options['label_column']}"}
    here = told(prepare(experiment(**by_path)), str(tmp_path))
    assert told(prepare(experiment(**one_word)), str(tmp_path)) == here
