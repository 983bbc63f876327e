"""Embeddings beyond the memory for them: from any format, the ids and gains of those in memory."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from raysubset.cli import call
from raysubset.errors import ConfigError, DataError
from raysubset.learn.embedded import EmbeddingFiles
from raysubset.learn.sources.embeddings import stream_embeddings
from raysubset.learn.sources.streams import Stream
from raysubset.selecting.here import select_here
from tests.selecting.points import of_files, same, write

N, H, C = 3_000, 100, 3
BLOCKS = {"selection__glister__picks": "blocks(4)", "selection__fraction": 0.05}
BEYOND = {"resources__selection_memory_mb": 1}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Embeddings that 16 bit hold exactly, labels, and ids that stand in no order."""
    draw = np.random.default_rng(seed)
    embedding = draw.normal(size=(N, H)).astype(np.float32)
    embedding = torch.from_numpy(embedding).bfloat16().float().numpy().clip(-8, 8)
    embedding[np.abs(embedding) < 2**-6] = 0
    return {"embeddings": embedding, "labels": draw.integers(0, C, N)}


def head(folder: Path) -> str:
    draw = np.random.default_rng(9)
    return write(folder / "head.npz", {"weight": draw.normal(size=(C, H)) / 10, "bias": np.ones(C)})


def npy(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    np.save(folder / "e.npy", given["embeddings"])
    np.save(folder / "l.npy", given["labels"])
    return EmbeddingFiles(embeddings=str(folder / "e.npy"), labels=str(folder / "l.npy"))


def npz(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    return EmbeddingFiles(embeddings=write(folder / "e.npz", given))


def packed(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    np.savez_compressed(folder / "p.npz", **given)
    return EmbeddingFiles(embeddings=str(folder / "p.npz"))


def wide(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    both = {**given, "embeddings": given["embeddings"].astype(np.float64)}
    return EmbeddingFiles(embeddings=write(folder / "w.npz", both))


def safetensors(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    return EmbeddingFiles(embeddings=write(folder / "e.safetensors", given))


def brain(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    tensors["embeddings"] = tensors["embeddings"].bfloat16()
    save_file(tensors, folder / "b.safetensors")
    return EmbeddingFiles(embeddings=str(folder / "b.safetensors"))


def lists(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    named = {"embedding": given["embeddings"], "label": given["labels"]}
    named |= {"id": given["ids"]} if "ids" in given else {}
    return EmbeddingFiles(embeddings=write(folder / "e.parquet", named))


def columns(folder: Path, given: dict[str, np.ndarray]) -> EmbeddingFiles:
    """A folder of two files, a column for each number."""
    (folder / "t").mkdir()
    for i, rows in enumerate((slice(0, 1000), slice(1000, N))):
        named = {f"x{j}": given["embeddings"][rows, j] for j in range(H)}
        named |= {"label": given["labels"][rows]}
        pq.write_table(pa.table(named), folder / "t" / f"{i}.parquet")
    return EmbeddingFiles(embeddings=str(folder / "t"))


FORMATS = (npy, npz, packed, wide, safetensors, brain, lists, columns)


def with_head(files: EmbeddingFiles, folder: Path, **more: Any) -> EmbeddingFiles:
    return EmbeddingFiles(
        embeddings=files.embeddings, labels=files.labels, head=head(folder), **more
    )


@pytest.mark.parametrize("made", FORMATS, ids=lambda made: made.__name__)
def test_every_format_chooses_from_the_disk_what_it_chooses_in_memory(tmp_path: Path, made: Any):
    files = with_head(made(tmp_path, arrays()), tmp_path)
    here, there = of_files(files, **BLOCKS), of_files(files, **BLOCKS, **BEYOND)
    assert there.on_disk and there.rows is not None and not here.on_disk
    assert here.identity == there.identity and here.inputs == there.inputs
    assert [note for note in there.notes if "temporary folder" not in note] == list(here.notes)
    chosen = select_here(there)
    assert same(select_here(here), chosen)
    assert {f.name for f in there.spool.folder.glob("[!.]*")} == {"pool", "factors"}
    assert not (there.spool.folder / "factors" / "embeddings").exists()  # they lie in `pool`


@pytest.mark.parametrize(
    "options",
    [
        {"selection__glister__gradient": "bias"},
        {"selection__glister__normalize": True, "selection__balance": "none"},
        {"selection__filters": ("duplicates",)},
        {"selection__glister__step": "sum", "selection__glister__step_size": 0.01},
        {"selection__batch_size": 7, "selection__glister__regularizer": "random(0.5)"},
    ],
    ids=lambda options: next(iter(options)).rpartition("__")[2],
)
def test_options_choose_alike(tmp_path: Path, options: dict[str, Any]):
    given = arrays(1)
    given["ids"] = np.random.default_rng(3).permutation(10 * N)[:N]  # stand in no order
    for name in ("embeddings", "labels"):
        given[name][1] = given[name][0]  # a duplicate
    files = with_head(npz(tmp_path, given), tmp_path)
    here, there = (of_files(files, **BLOCKS, **options, **more) for more in ({}, BEYOND))
    assert there.on_disk
    assert here.identity["parts"] == there.identity["parts"]
    for part in ("pool", "validation"):
        a, b = (getattr(ready.problem.parts, part) for ready in (here, there))
        assert a.fingerprint == b.fingerprint
    assert same(select_here(here), select_here(there))


def test_validation_of_its_own_and_rows_left_out(tmp_path: Path):
    given, own = arrays(2), arrays(3)
    given["embeddings"][[5, 70]] = np.nan
    files = with_head(
        npz(tmp_path, given),
        tmp_path,
        validation_embeddings=write(tmp_path / "v.npz", own),
    )
    skip = {"data__on_bad_row": "skip"}
    here, there = (of_files(files, **BLOCKS, **skip, **more) for more in ({}, BEYOND))
    assert there.on_disk and there.problem.parts.pool.num_examples == N - 2
    assert same(select_here(here), select_here(there))
    with pytest.raises(DataError, match="2 of 3,000 rows hold NaN or infinity, first ids 5, 70"):
        of_files(files, **BLOCKS, **BEYOND)


def test_picks_that_would_read_the_disk_for_each_are_refused_with_the_remedy(tmp_path: Path):
    files = with_head(npz(tmp_path, arrays()), tmp_path)
    with pytest.raises(ConfigError, match=r"above --resources.selection_memory_mb 1.*blocks\(50\)"):
        of_files(files, **BEYOND)
    near = {**BLOCKS, "selection__glister__regularizer": "diversity(1)"}
    with pytest.raises(ConfigError, match=r"leave --selection.glister.regularizer out"):
        of_files(files, **near, **BEYOND)
    random = of_files(files, selection__strategy="random", **BEYOND)
    assert not random.on_disk and len(select_here(random)) == 270
    # Exact picks from a sample that fits the memory: only its rows are read.
    few = {"selection__candidates": 2.0, "selection__fraction": 0.02}
    here, there = (of_files(files, **few, **more) for more in ({}, BEYOND))
    assert there.spool is not None and not there.on_disk
    assert same(select_here(here), select_here(there))


def test_the_folder_ends_with_the_selection(tmp_path: Path):
    ready = of_files(with_head(npz(tmp_path, arrays()), tmp_path), **BLOCKS, **BEYOND)
    folder = ready.spool.folder
    assert folder.is_dir()
    del ready
    gc.collect()
    assert not folder.exists()


def test_the_command_takes_the_limit_and_tells_of_it(tmp_path: Path, capsys: Any):
    files = with_head(npz(tmp_path, arrays()), tmp_path)
    words = ["select", "--local", "--embeddings", files.embeddings, "--head", str(files.head)]
    words += ["--selection.glister.picks", "blocks(3)", "--run-dir"]
    code, here = call([*words, str(tmp_path / "a")])
    assert code == 0 and "temporary folder" not in capsys.readouterr().out
    code, there = call([*words, str(tmp_path / "b"), "--resources.selection_memory_mb", "1"])
    assert code == 0 and "temporary folder" in capsys.readouterr().out
    assert Path(here["selection"]).read_bytes() == Path(there["selection"]).read_bytes()


@pytest.mark.parametrize("made", FORMATS, ids=lambda made: made.__name__)
def test_tiles_are_the_rows_in_their_order(
    tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch
):
    given = arrays(4)
    monkeypatch.setattr("raysubset.learn.sources.streams.TILE_BYTES", 4 * H * 700)
    stream = stream_embeddings(made(tmp_path, given).embeddings, None)
    assert stream is not None and stream.shape == (N, H)
    tiles = [(rows, tile) for rows, tile in stream.tiles()]
    assert max(len(tile) for _, tile in tiles) <= 700
    assert np.array_equal(np.concatenate([tile for _, tile in tiles]), given["embeddings"])
    assert [row for rows, _ in tiles for row in range(rows.start, rows.stop)] == list(range(N))


def test_a_file_that_cannot_be_read_in_tiles_is_no_stream(tmp_path: Path):
    (tmp_path / "x.csv").write_text("a,label\n1,0\n")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((4, 3))))
    assert stream_embeddings(str(tmp_path / "x.csv"), None) is None
    assert stream_embeddings(str(tmp_path / "damaged.npz"), None) is None
    assert stream_embeddings(str(tmp_path / "fortran.npy"), None) is not None
    short = Stream(name="e", shape=(3, 2), dtype="f", read=lambda _: iter([np.ones((2, 2))]))
    with pytest.raises(DataError, match="2 rows are there"):
        list(short.tiles())
