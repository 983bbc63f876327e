"""Embedding files: what is read, and what is refused with its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from raysubset.errors import DataError, ModelError, RaySubsetError
from raysubset.learn.embedded import EmbeddingFiles, LinearHead, read_head, read_parts
from raysubset.learn.head_fit import fit_head
from raysubset.learn.parts import Parts

N, H, C = 60, 5, 3
RANDOM = np.random.default_rng(0)
EMBEDDINGS = RANDOM.normal(size=(N, H)).astype(np.float32)
LABELS = np.arange(N) % C
HEAD = LinearHead(
    weight_CH=RANDOM.normal(size=(C, H)).astype(np.float32), bias_C=np.zeros(C, np.float32)
)
ARRAYS: dict[str, Any] = {"embeddings": EMBEDDINGS, "labels": LABELS}


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path / "e.npz", **arrays)
    return str(path / "e.npz")


def parts(text: str, head: LinearHead | None = HEAD, on_bad: Any = "refuse", **more: Any) -> Parts:
    files = EmbeddingFiles(embeddings=text, **more)
    return read_parts(files, head, share=None, on_bad_row=on_bad, seed=0)


def rows(found: Parts) -> dict[int, tuple[bytes, int]]:
    """Return embedding and label by id, over pool and validation."""
    return {
        int(i): (content.tobytes(), int(label))
        for part in (found.pool, found.validation)
        for i, content, label in zip(part.id_N, part.content, part.label_N, strict=True)
    }


WANTED = {i: (EMBEDDINGS[i].tobytes(), int(LABELS[i])) for i in range(N)}


def test_every_row_is_in_one_part_as_it_stands_in_the_file(tmp_path: Path):
    assert rows(parts(npz(tmp_path, **ARRAYS))) == WANTED


def test_tables_of_lists_numbers_and_several_files_are_alike(tmp_path: Path):
    lists = pa.table({"embedding": EMBEDDINGS.tolist(), "label": LABELS, "id": np.arange(N)})
    lists = lists.set_column(0, "embedding", lists["embedding"].cast(pa.large_list(pa.float32())))
    pq.write_table(lists, tmp_path / "lists.parquet")
    numbers = pa.table({f"x{i}": EMBEDDINGS[:, i] for i in range(H)} | {"label": LABELS})
    pa_csv.write_csv(numbers, tmp_path / "numbers.csv")
    (tmp_path / "many").mkdir()
    for start in range(0, N, 20):
        pq.write_table(numbers.slice(start, 20), tmp_path / "many" / f"part-{start:02d}.parquet")
    for name in ("lists.parquet", "numbers.csv", "many"):
        assert rows(parts(str(tmp_path / name))) == WANTED


def test_an_npy_matrix_takes_its_labels_from_beside(tmp_path: Path):
    np.save(tmp_path / "e.npy", EMBEDDINGS)
    np.save(tmp_path / "l.npy", LABELS)
    pq.write_table(pa.table({"label": LABELS}), tmp_path / "l.parquet")
    for labels in ("l.npy", "l.parquet"):
        assert rows(parts(str(tmp_path / "e.npy"), labels=str(tmp_path / labels))) == WANTED


@pytest.mark.parametrize("kind", [np.float16, np.float64, ">f4"])
def test_other_floats_become_float32_and_that_is_told(tmp_path: Path, kind: Any):
    found = parts(npz(tmp_path, embeddings=EMBEDDINGS.astype(kind), labels=LABELS))
    assert any("to float32" in note for note in found.pool.notes)
    assert found.pool.content.dtype == np.float32
    wanted = EMBEDDINGS.astype(kind).astype(np.float32)
    assert np.array_equal(found.pool.content, wanted[found.pool.id_N])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_f11_rows_that_are_not_finite_are_refused_by_id_or_left_out(tmp_path: Path, value: float):
    wide = EMBEDDINGS.astype(np.float64)
    wide[[7, 31], 2] = value
    text = npz(tmp_path, embeddings=wide, labels=LABELS, ids=np.arange(N) + 100)
    with pytest.raises(DataError, match=r"2 of 60 rows.*107, 131.*on_bad_row skip"):
        parts(text)
    kept = rows(parts(text, on_bad="skip"))
    assert kept.keys() == set(range(100, 160)) - {107, 131}


def test_ids_and_keys_are_the_persons_own(tmp_path: Path):
    ids = RANDOM.permutation(10_000)[:N]
    found = parts(npz(tmp_path, **ARRAYS, ids=ids, keys=np.array([f"img-{i}" for i in ids])))
    assert rows(found) == {int(ids[i]): WANTED[i] for i in range(N)}
    assert found.pool.keys == tuple(f"img-{i}" for i in found.pool.id_N)
    text = pa.table(
        {"embedding": EMBEDDINGS.tolist(), "label": LABELS, "id": [f"k{i}" for i in range(N)]}
    )
    pq.write_table(text, tmp_path / "t.parquet")
    assert parts(str(tmp_path / "t.parquet")).pool.keys is not None


def test_text_labels_follow_the_heads_names_else_their_order(tmp_path: Path):
    names = ("pear", "fig", "apple")
    text = npz(tmp_path, embeddings=EMBEDDINGS, labels=np.array(names)[LABELS])
    named = LinearHead(weight_CH=HEAD.weight_CH, bias_C=HEAD.bias_C, names=names)
    assert rows(parts(text, named)) == WANTED
    ordered = parts(text)
    assert ordered.pool.class_names == ("apple", "fig", "pear")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"embeddings": EMBEDDINGS}, "no labels.*embeddings"),
    ({"labels": LABELS}, "no embeddings"),
    ({"embeddings": EMBEDDINGS[0], "labels": LABELS}, "shape"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS[:-1]}, "60 rows.*59 labels"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS + 1}, r"3 .20 rows.*0\.\.2"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS - 1}, "negative"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS / 2}, "type double"),
    ({"embeddings": EMBEDDINGS[:, :3], "labels": LABELS}, "3 wide"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS, "ids": LABELS}, "stand twice"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS, "ids": np.arange(N) - 1}, "negative"),
    ({"embeddings": EMBEDDINGS, "labels": LABELS, "ids": np.arange(3)}, "one per row"),
    ({"embeddings": np.array([{}] * N), "labels": LABELS}, "numpy"),
    ({"embeddings": EMBEDDINGS.astype(complex), "labels": LABELS}, "numbers"),
    ({"embeddings": EMBEDDINGS, "labels": np.array(["a", "b"])[LABELS % 2]}, "2 distinct names"),
]


@pytest.mark.parametrize(("arrays", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_does_not_fit_is_refused_with_its_reason(
    tmp_path: Path, arrays: dict[str, Any], why: str
):
    with pytest.raises(RaySubsetError, match=why) as refused:
        parts(npz(tmp_path, **arrays))
    assert refused.value.exit_code == 2


def test_validation_of_another_width_or_class_is_refused(tmp_path: Path):
    text = npz(tmp_path, **ARRAYS)
    np.savez(tmp_path / "narrow.npz", embeddings=EMBEDDINGS[:, :4], labels=LABELS)
    with pytest.raises(DataError, match=r"4 wide.*5 wide"):
        parts(text, validation_embeddings=str(tmp_path / "narrow.npz"))
    np.savez(tmp_path / "two.npz", embeddings=EMBEDDINGS[LABELS < 2], labels=LABELS[LABELS < 2])
    with pytest.raises(DataError, match="without a row in the pool"):
        parts(str(tmp_path / "two.npz"), validation_embeddings=text)


def test_whole_numbers_follow_the_heads_classes_where_these_are_whole_numbers(tmp_path: Path):
    for named in ((2, 0, 1), (7, 3, 5)):
        head = LinearHead(
            weight_CH=HEAD.weight_CH, bias_C=HEAD.bias_C, names=tuple(str(n) for n in named)
        )
        labels = np.array(named)[LABELS]  # so that row LABELS[i] of the head stands for row i
        assert rows(parts(npz(tmp_path, embeddings=EMBEDDINGS, labels=labels), head)) == WANTED


def test_a_head_that_names_a_class_twice_is_refused(tmp_path: Path):
    head = LinearHead(weight_CH=HEAD.weight_CH, bias_C=HEAD.bias_C, names=("a", "b", "a"))
    with pytest.raises(DataError, match="twice"):
        parts(npz(tmp_path, embeddings=EMBEDDINGS, labels=np.array(["a", "b"])[LABELS % 2]), head)


def test_a_row_of_a_ragged_or_missing_list_is_refused(tmp_path: Path):
    for name, row in (("ragged", [1.0] * 4), ("missing", None), ("inside", [None] * H)):
        table = pa.table({"embedding": [*EMBEDDINGS.tolist()[1:], row], "label": LABELS})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pytest.raises(DataError, match="as many numbers"):
            parts(str(tmp_path / f"{name}.parquet"))


def test_a_head_is_found_beside_the_embeddings_or_in_its_own_file(tmp_path: Path):
    weight, bias = HEAD.weight_CH, np.arange(C, dtype=np.float32)
    text = npz(tmp_path, **ARRAYS, weight=weight, bias=bias)
    beside = read_head(EmbeddingFiles(embeddings=text))
    assert beside is not None
    assert np.array_equal(beside.weight_CH, weight) and np.array_equal(beside.bias_C, bias)
    np.savez(tmp_path / "h.npz", **{"fc.weight": weight.astype(np.float64), "fc.bias": bias})
    own = read_head(EmbeddingFiles(embeddings=text, head=str(tmp_path / "h.npz")))
    assert own is not None and np.array_equal(own.weight_CH, weight)
    assert any("float64" in note for note in own.notes)
    np.savez(tmp_path / "b.npz", weight=weight)
    bare = read_head(EmbeddingFiles(embeddings=text, head=str(tmp_path / "b.npz")))
    assert bare is not None and not bare.bias_C.any() and bare.notes


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"weight": HEAD.weight_CH[:1], "bias": HEAD.bias_C[:1]}, "becomes two rows"),
        ({"weight": HEAD.weight_CH, "bias": HEAD.bias_C[:2]}, "wanted"),
        ({"weight": HEAD.weight_CH * np.nan, "bias": HEAD.bias_C}, "NaN"),
        ({"w": HEAD.weight_CH}, "no weight.*w"),
    ],
)
def test_a_head_that_is_none_is_refused(tmp_path: Path, arrays: dict[str, Any], why: str):
    np.savez(tmp_path / "h.npz", **arrays)
    files = EmbeddingFiles(embeddings="e.npz", head=str(tmp_path / "h.npz"))
    with pytest.raises(RaySubsetError, match=why):
        read_head(files)


def test_a_turned_head_is_told_so(tmp_path: Path):
    turned = LinearHead(weight_CH=HEAD.weight_CH.T.copy(), bias_C=np.zeros(H, np.float32))
    with pytest.raises(ModelError, match="transpose"):
        parts(npz(tmp_path, **ARRAYS), turned)


def test_a_fitted_head_tells_the_classes_apart_and_how_well(tmp_path: Path):
    centre = 5 * np.eye(C, H, dtype=np.float32)
    text = npz(tmp_path, embeddings=3 + EMBEDDINGS + centre[LABELS], labels=LABELS)
    found = parts(text, None)
    head = fit_head(found, seed=0)
    logits = found.pool.content @ head.weight_CH.T + head.bias_C
    assert (logits.argmax(1) == found.pool.label_N).mean() > 0.9
    assert "validation accuracy" in head.notes[0]
    again = fit_head(found, seed=0)
    assert again.weight_CH.tobytes() == head.weight_CH.tobytes()


def test_a_fitted_head_of_two_classes_has_two_rows(tmp_path: Path):
    two = LABELS < 2
    moved = EMBEDDINGS + 4 * np.eye(C, H, dtype=np.float32)[LABELS]
    found = parts(npz(tmp_path, embeddings=moved[two], labels=LABELS[two]), None)
    head = fit_head(found, seed=0)
    assert head.weight_CH.shape == (2, H)
    logits = found.pool.content @ head.weight_CH.T + head.bias_C
    assert (logits.argmax(1) == found.pool.label_N).mean() > 0.9
