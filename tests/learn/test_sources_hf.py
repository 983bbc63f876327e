"""Hugging Face datasets give the rows that the same rows give as Parquet or CSV."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysubset.errors import ConfigError, DataError
from raysubset.learn.data import Dataset
from raysubset.learn.sources.hf_disk import read_saved
from tests.learn.sources_on_disk import load, pixels, png, write_images, write_table

hf = pytest.importorskip("datasets", reason="the extra hf is not installed")
hf.disable_progress_bars()
NAMES = ["cat", "dog", "owl"]


def images(rows: range, modes: tuple[str, ...] = ("RGB",)) -> Any:
    """Return encoded images with their paths, and labels with names."""
    cells = [{"bytes": png(i, modes[i % len(modes)]), "path": f"{i}.png"} for i in rows]
    kinds = hf.Features(image=hf.Image(), label=hf.ClassLabel(names=NAMES))
    return hf.Dataset.from_dict({"image": cells, "label": [i % 3 for i in rows]}, features=kinds)


def split_dict(**parts: Any) -> Any:
    return hf.DatasetDict(parts)


def saved(dataset: Any, folder: Path, **options: Any) -> Path:
    dataset.save_to_disk(str(folder), **options)
    return folder


def same(a: Dataset, b: Dataset) -> None:
    assert a.fingerprint == b.fingerprint and a.keys == b.keys
    assert a.feature_names == b.feature_names


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_saved_folder_is_the_same_rows_as_parquet_in_any_number_of_shards(
    tmp_path: Path, shards: int
):
    parts = {"train": range(12), "validation": range(12, 18), "test": range(18, 24)}
    dataset = split_dict(**{name: images(rows) for name, rows in parts.items()})
    found = load(saved(dataset, tmp_path / "saved", num_shards=dict.fromkeys(parts, shards)))
    (tmp_path / "parquet").mkdir()
    for name in parts:
        dataset[name].to_parquet(tmp_path / f"parquet/{name}.parquet")
    as_parquet = load(tmp_path / "parquet")
    for name in parts:
        same(getattr(found, name), getattr(as_parquet, name))
    assert found.train.class_names == tuple(NAMES)
    content, _ = found.train.take([7])
    np.testing.assert_array_equal(content[0], pixels(7).transpose(2, 0, 1))


def test_chosen_rows_alone_are_decoded_and_keep_their_ids(tmp_path: Path):
    folder = saved(images(range(30)), tmp_path / "saved", num_shards=4)
    few, every = load(folder, limit=9).train, load(folder).train
    assert few.num_examples == 9
    np.testing.assert_array_equal(few.content, every.take(few.id_N)[0])
    assert every.keys is not None
    assert few.keys == tuple(every.keys[i] for i in few.id_N)


def test_columns_without_images_are_a_table_like_the_same_csv(tmp_path: Path):
    rows = {"a": [0.5, 1, 2, 3, 4, 5], "c": list("uvuvuv"), "label": ["x", "y"] * 3}
    write_table(tmp_path / "t.parquet", rows)
    folder = saved(hf.Dataset.from_dict(rows), tmp_path / "saved")
    same(load(folder).train, load(tmp_path / "t.parquet").train)
    renamed = hf.Dataset.from_dict(rows).rename_column("label", "kind")
    other = load(saved(renamed, tmp_path / "other"), label_column="kind").train
    same(other, load(folder).train)


def test_a_saved_folder_is_read_without_the_extra(tmp_path: Path):
    folder = saved(split_dict(train=images(range(6)), test=images(range(6, 9))), tmp_path / "s")
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from tests.learn.sources_on_disk import load\n"
        f"print(load({str(folder)!r}).train.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == load(folder).train.fingerprint, done.stderr


def test_a_split_may_be_named_and_what_is_no_part_is_told(tmp_path: Path):
    dataset = split_dict(small=images(range(6)), train=images(range(6, 12)), extra=images(range(3)))
    folder = saved(dataset, tmp_path / "s")
    small = load(folder, split="small").train
    same(small, load(saved(images(range(6)), tmp_path / "alone")).train)
    assert "ignored the splits train, extra" in " ".join(small.notes)
    with pytest.raises(ConfigError, match=r"--data.split=smal: .*did you mean 'small'"):
        load(folder, split="smal")


def test_a_part_of_ones_own_is_a_saved_folder(tmp_path: Path):
    train = saved(split_dict(train=images(range(6)), test=images(range(3))), tmp_path / "s")
    own = saved(images(range(20, 26)), tmp_path / "own")
    test = load(train, test=own).test
    assert test is not None
    np.testing.assert_array_equal(test.content, load(own).train.content)
    with pytest.raises(ConfigError, match=r"--data.test=.*splits train, and none of them"):
        load(own, test=own)
    with pytest.raises(DataError, match="no such file or folder"):
        load(train, test=tmp_path / "missing")


def test_f12_the_class_minus_one_is_a_missing_label(tmp_path: Path):
    dataset = images(range(9))
    labels = [-1 if i == 4 else i % 3 for i in range(9)]
    dataset = dataset.remove_columns("label").add_column("label", labels)
    dataset = dataset.cast_column("label", hf.ClassLabel(names=NAMES))
    folder = saved(dataset, tmp_path / "s")
    with pytest.raises(DataError, match=r"1 of 9 labels are missing \(first: .*arrow row 4\)"):
        load(folder)
    train = load(folder, on_bad_row="skip").train
    assert [bad.row for bad in train.skipped] == [4] and train.num_examples == 8


@pytest.mark.parametrize("modes", [("L", "RGB"), ("RGBA", "RGB"), ("LA", "L")])
def test_mixed_image_modes_are_one_mode_and_told_as_from_parquet(
    tmp_path: Path, modes: tuple[str, ...]
):
    folder = saved(images(range(12), modes), tmp_path / "s")
    cells: list[bytes | None] = [png(i, modes[i % len(modes)]) for i in range(12)]
    write_images(tmp_path / "t.parquet", cells, [i % 3 for i in range(12)])
    train, other = load(folder).train, load(tmp_path / "t.parquet").train
    np.testing.assert_array_equal(train.content, other.content)
    assert train.notes == other.notes and train.notes


def test_f16_an_image_that_cannot_be_decoded_is_named_or_left_out(tmp_path: Path):
    cells = [{"bytes": png(i) if i != 5 else png(i)[:60], "path": f"{i}.png"} for i in range(9)]
    kinds = hf.Features(image=hf.Image(decode=False), label=hf.ClassLabel(names=NAMES))
    rows = {"image": cells, "label": [i % 3 for i in range(9)]}
    folder = saved(hf.Dataset.from_dict(rows, features=kinds), tmp_path / "s")
    with pytest.raises(DataError, match=r"1 of 9 images.*arrow row 5 \(5.png\)"):
        load(folder)
    assert [bad.row for bad in load(folder, on_bad_row="skip").train.skipped] == [5]


def test_an_image_that_stands_in_a_file_is_read_there(tmp_path: Path):
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": None, "path": f"{tmp_path}/{i}.png"} for i in range(6)],
                pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            ),
            "label": [i % 3 for i in range(6)],
        }
    )
    found = _written(tmp_path / "s", table)
    np.testing.assert_array_equal(load(found).train.content[5], pixels(5).transpose(2, 0, 1))


def _written(folder: Path, table: pa.Table) -> Path:
    """Write a table in the layout of save_to_disk, as any other program may."""
    folder.mkdir()
    with pa.OSFile(f"{folder}/data-0.arrow", "wb") as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_an_image_column_of_another_name_is_found_and_two_are_refused(tmp_path: Path):
    photo = images(range(6)).rename_column("image", "photo")
    same(
        load(saved(photo, tmp_path / "a")).train,
        load(saved(images(range(6)), tmp_path / "b")).train,
    )
    masks = [{"bytes": png(i), "path": None} for i in range(6)]
    two = photo.add_column("mask", masks).cast_column("mask", hf.Image())
    with pytest.raises(DataError, match="2 columns of images"):
        load(saved(two, tmp_path / "c"))


def test_f17_a_file_cut_at_any_place_is_refused_by_name(tmp_path: Path):
    table = pa.table({"a": np.arange(40.0), "label": np.arange(40) % 2})
    folder = _written(tmp_path / "s", table)
    assert load(folder).train.num_examples == 40
    path = folder / "data-0.arrow"
    whole = path.read_bytes()
    passed = 0
    for size in range(0, len(whole), 8):
        path.write_bytes(whole[:size])
        with suppress(pa.ArrowException, OSError), pa.memory_map(str(path)) as source:
            passed += pa.ipc.open_stream(source).read_all().num_rows > 0
        with pytest.raises(DataError, match=r"data-0\.arrow"):
            read_saved(folder)
    assert passed > 1  # cut between two batches, it is whole to Arrow


DAMAGE = {
    "state.json": ("{", "missing or no JSON object"),
    "data-00000-of-00001.arrow": (None, "lacks data-00000-of-00001.arrow"),
    "dataset_info.json": (None, "missing or no JSON object"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_f17_a_folder_that_is_not_whole_is_refused_by_name(tmp_path: Path, name: str):
    content, said = DAMAGE[name]
    folder = saved(images(range(6)), tmp_path / "s")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=said):
        load(folder)


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/passwd", "a/b.arrow", "", 3])
def test_data_files_outside_the_folder_are_not_read(tmp_path: Path, name: object):
    folder = saved(images(range(6)), tmp_path / "s")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="names no data files in its folder"):
        load(folder)


def test_a_folder_that_save_to_disk_did_not_make_is_refused_as_such(tmp_path: Path):
    with pytest.raises(DataError, match="no folder of Hugging Face's save_to_disk"):
        load(tmp_path, format="hf")


def hub(monkeypatch: pytest.MonkeyPatch, give: Any, version: str = hf.__version__) -> list[Any]:
    """Put a client in the place of datasets; return what it is asked."""
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        if isinstance(give, Exception):
            raise give
        return give

    client = SimpleNamespace(load_dataset=load_dataset, __version__=version)
    monkeypatch.setitem(sys.modules, "datasets", client)  # pyright: ignore[reportArgumentType]
    return asked


@pytest.mark.parametrize("words", [{"path": "hf:me/pets"}, {"path": "me/pets", "format": "hf"}])
def test_a_name_on_the_hub_is_what_its_client_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, str]
):
    dataset = split_dict(train=images(range(12)).select(range(11, -1, -1)), test=images(range(3)))
    asked = hub(monkeypatch, dataset)
    found = load(**{**words, "hub_config": "small", "hub_revision": "v1"})
    assert asked == [(("me/pets", "small"), {"revision": "v1"})]
    as_saved = load(saved(dataset, tmp_path / "s"))
    same(found.train, as_saved.train)
    assert found.test is not None and as_saved.test is not None
    same(found.test, as_saved.test)
    assert found.train.name == "pets"


def test_code_of_the_hub_is_refused_where_the_client_could_run_it(monkeypatch):
    asked = hub(monkeypatch, split_dict(train=images(range(6))), "3.6.0")
    load("hf:me/pets")
    assert asked[0][1]["trust_remote_code"] is False


@pytest.mark.parametrize("error", [ConnectionError("no way\nto go"), ValueError("Config missing")])
def test_what_the_hub_says_is_a_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception):
    hub(monkeypatch, error)
    with pytest.raises(DataError, match=rf"hf:me/pets cannot be had .*{type(error).__name__}") as e:
        load("hf:me/pets")
    assert "\n" not in str(e.value) and "save_to_disk" in str(e.value)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="uv sync --extra hf"):
        load("hf:me/pets")


OPTIONS = [
    ({"split": "a"}, "digits", "--data.split=a: only Hugging Face"),
    ({"hub_revision": "a"}, "digits", "--data.hub_revision=a: only Hugging Face"),
    ({"layout": "NCHW"}, "digits", "--data.layout=NCHW: only arrays"),
]


@pytest.mark.parametrize(("options", "format", "said"), OPTIONS)
def test_an_option_that_the_format_does_not_read_is_refused(options, format, said):
    with pytest.raises(ConfigError, match=said):
        load(format=format, **options)


@pytest.mark.parametrize("option", ["hub_config", "hub_revision"])
def test_a_folder_on_disk_has_no_config_and_no_revision(tmp_path: Path, option: str):
    folder = saved(images(range(6)), tmp_path / "s")
    with pytest.raises(ConfigError, match=f"--data.{option}=a"):
        load(folder, **{option: "a"})


def test_a_table_s_columns_have_the_roles_that_parquet_gives_them(tmp_path: Path):
    rows = {"who": list("pqrstu"), "a": [1, 2, 1, 2, 1, 2], "b": [0.5] * 6, "label": [0, 1] * 3}
    write_table(tmp_path / "t.parquet", rows)
    folder = saved(hf.Dataset.from_dict(rows), tmp_path / "s")
    roles = {"key_column": "who", "drop": ["b"], "categorical": ["a"]}
    same(load(folder, **roles).train, load(tmp_path / "t.parquet", **roles).train)
    assert load(folder, **roles).train.keys == tuple("pqrstu")


def test_a_column_of_keys_names_images_and_other_roles_are_refused(tmp_path: Path):
    folder = saved(images(range(6)).add_column("who", list("pqrstu")), tmp_path / "s")
    assert load(folder, key_column="who").train.keys == tuple("pqrstu")
    with pytest.raises(ConfigError, match=r"--data.drop=who"):
        load(folder, drop=["who"])
    with pytest.raises(ConfigError, match=r"--data.key_column=whom: .*did you mean 'who'"):
        load(folder, key_column="whom")
    side = write_table(tmp_path / "y.csv", {"k": list("utsrqp"), "label": [0, 1, 2] * 2})
    joined = load(folder, key_column="who", labels=side, labels_key="k").train
    assert joined.label_N.tolist() == [2, 1, 0] * 2
