from __future__ import annotations

import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.builtin import cache_folder
from tests.learn.sources_on_disk import load, png, write_file, write_images, write_table


def test_digits_are_the_scans_times_fifteen():
    train = load(format="digits").train
    scans = load_digits()
    assert train.content.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(train.content[:, 0], scans.images * 15)
    np.testing.assert_array_equal(train.label_N, scans.target)
    assert (train.name, train.class_names) == ("digits", tuple("0123456789"))


def test_digits_limited_by_other_seeds_are_other_rows_of_the_same_classes():
    chosen = [load(format="digits", limit=100, seed=seed).train for seed in (1, 1, 2)]
    assert chosen[0].fingerprint == chosen[1].fingerprint != chosen[2].fingerprint
    for train in chosen:
        assert train.num_examples == 100
        assert train.class_count_C.min() >= 9


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda root: write_table(root / "x.csv", {"a": [1, 2], "label": [0, 1]}), "tabular"),
        (lambda root: write_table(root / "x.parquet", {"a": [1, 2], "label": [0, 1]}), "tabular"),
        (lambda root: write_images(root / "x.parquet", [png(0), png(1)], [0, 1]), "image"),
        (
            lambda root: [write_file(root / name / "0.png", png(i)) for i, name in enumerate("ab")],
            "image",
        ),
    ],
)
def test_auto_finds_the_format_of_a_folder(tmp_path, write, kind):
    write(tmp_path)
    assert load(tmp_path).train.kind == kind


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "parket-images"}, r"format=parket-images.*did you mean 'parquet-images'\?"),
        ({"format": "auto"}, r"format=auto needs a path: --data FILE_OR_FOLDER.*--data digits"),
        ({"format": "tabular"}, "format=tabular needs a path"),
        ({"format": "digits", "path": "/"}, "path=/: digits is built in and takes no path"),
        ({"format": "digits", "test": "/"}, r"test=/: digits is built in.*--data.test 0.1"),
        ({"format": "digits", "test": 1.5}, r"test=1.5 must be a share"),
        ({"format": "digits", "test": "20"}, r"test=20 must be a share.*did you mean 0.2\?"),
        ({"format": "digits", "on_bad_row": "drop"}, "on_bad_row=drop; choices: refuse, skip"),
        ({"format": "digits", "limit": 19}, "limit=19 is too small for 10 classes; use 20"),
        ({"path": "s3://bucket/x"}, "s3://bucket/x: only local paths"),
    ],
)
def test_an_option_that_means_nothing_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        load(**options)


def test_a_path_where_nothing_is_names_what_looks_like_it(tmp_path):
    write_file(tmp_path / "cifar10.parquet", b"x")
    with pytest.raises(DataError, match=r"--data=.*cifr10.parquet.*did you mean .*cifar10.parquet"):
        load(tmp_path / "cifr10.parquet")
    with pytest.raises(DataError, match=r"nearest folder that exists is "):
        load(tmp_path / "no" / "such" / "folder")
    with pytest.raises(DataError, match=r"--data=digitts.*did you mean digits\?"):
        load(path="digitts")


@pytest.mark.parametrize("option", ["labels", "validation", "tuning", "test"])
def test_every_option_with_a_path_names_itself(tmp_path, option):
    path = write_table(tmp_path / "x.parquet", {"a": [1, 2], "label": [0, 1]})
    with pytest.raises(DataError, match=rf"--data.{option}=.*missing.csv"):
        load(path, **{option: tmp_path / "missing.csv"})


def test_paths_that_no_file_system_takes_are_refused(tmp_path):
    for path in ("a\0b", "x" * 5_000):
        with pytest.raises(DataError, match="--data="):
            load(path=path)


def test_what_cannot_be_data_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing that can be read \(it is empty\)"):
        load(tmp_path)
    with pytest.raises(
        DataError, match=r"notes.txt is no .parquet .* or .csv or .npz or .npy file"
    ):
        load(write_file(tmp_path / "notes.txt", b"x"))
    with pytest.raises(DataError, match=r"holds no .parquet .*; it holds notes.txt"):
        load(tmp_path, format="tabular")
    with pytest.raises(DataError, match=r"x.parquet is empty \(0 bytes\)"):
        load(write_file(tmp_path / "x.parquet", b""))
    with pytest.raises(DataError, match=r"x.parquet is a file; an image folder is"):
        load(tmp_path / "x.parquet", format="image-folder")


def test_a_part_of_ones_own_replaces_the_one_found_and_both_are_capped(tmp_path):
    rows = {"a": np.arange(40.0), "label": [0, 1] * 20}
    write_table(tmp_path / "d" / "train.parquet", rows)
    write_table(tmp_path / "d" / "test.parquet", rows)
    mine = write_table(tmp_path / "mine.csv", {"a": np.arange(50.0), "label": [0, 1] * 25})
    sources = load(tmp_path / "d", test=mine, limit=10)
    assert (sources.train.num_examples, sources.test.num_examples) == (10, 10)
    assert sources.test.id_N.max() > 10 or sources.test.content.max() < 50
    assert any("--data.test names others" in note for note in sources.train.notes)


@pytest.mark.parametrize(
    ("first", "second"), [("validation", "test"), ("tuning", "test"), ("train", "test")]
)
def test_f20_a_file_that_two_parts_would_read_is_refused_with_the_remedy(tmp_path, first, second):
    names = ("train", "validation", "tuning", "test")
    paths = {
        name: write_table(tmp_path / f"{name}.csv", {"a": [i, i + 1], "label": [0, 1]})
        for i, name in enumerate(names)
    }
    paths[second] = tmp_path / "elsewhere" / "link.csv"
    paths[second].parent.mkdir()
    paths[second].symlink_to(paths[first])
    options = {name: path for name, path in paths.items() if name != "train"}
    said = rf"--data.{second}: .*link.csv is the {first} part already.*leave out --data.{second}"
    with pytest.raises(ConfigError, match=said):
        load(paths["train"], **options)


def test_f20_a_folder_of_images_that_two_parts_would_read_is_refused(tmp_path):
    for part in ("train", "val"):
        for i, name in enumerate("abab"):
            write_file(tmp_path / part / name / f"{i}.png", png(i))
    with pytest.raises(ConfigError, match=r"--data.test: .*val is the validation part already"):
        load(tmp_path, test=tmp_path / "val")


def test_f20_one_folder_with_a_file_of_each_part_may_be_named_for_all_of_them(tmp_path):
    for i, name in enumerate(("train", "val", "test")):
        write_table(tmp_path / f"{name}.csv", {"a": [i, i + 1], "label": [0, 1]})
    sources = load(tmp_path, validation=tmp_path, test=tmp_path)
    assert sources.validation.content[0] == 1 and sources.test.content[0] == 2


def test_a_labels_file_in_the_folder_is_no_data_whatever_its_name(tmp_path):
    for name in ("human.parquet", "a.parquet", "train-labels.parquet", "labels.csv"):
        folder = tmp_path / name.replace(".", "-")
        write_images(folder / "train-0.parquet", [png(i) for i in range(4)], [0, 1, 0, 1])
        plain = load(folder).train
        labels = write_table(folder / name, {"label": [1, 0, 1, 0]})
        train = load(folder, labels=labels).train
        np.testing.assert_array_equal(train.content, plain.content)
        assert train.label_N.tolist() == [1, 0, 1, 0] and train.notes == ()


def test_a_labels_file_beside_unnamed_images_does_not_make_a_table_of_them(tmp_path):
    write_images(tmp_path / "x.parquet", [png(i) for i in range(4)], [0, 1, 0, 1])
    labels = write_table(tmp_path / "a.csv", {"label": [1, 0, 1, 0]})
    assert load(tmp_path, labels=labels).train.kind == "image"


@pytest.mark.parametrize("where", ["l.csv", "labels/l.csv", "train/l.csv"])
def test_a_labels_file_in_an_image_folder_or_a_clone_is_no_data(tmp_path, where):
    for i in range(4):
        write_file(tmp_path / "i" / "train" / str(i % 2) / f"{i}.png", png(i))
    labels = write_table(tmp_path / "i" / where, {"label": [1, 0, 1, 0]})
    assert load(tmp_path / "i", labels=labels).train.label_N.tolist() == [1, 0, 1, 0]
    folder = tmp_path / "clone"
    inside = "train" if where.startswith("train") else "data"
    write_images(folder / inside / "train-0.parquet", [png(i) for i in range(4)], [0, 1, 0, 1])
    labels = write_table(folder / where, {"label": [1, 0, 1, 0]})
    train = load(folder, labels=labels).train
    assert train.kind == "image" and train.label_N.tolist() == [1, 0, 1, 0]


def test_a_folder_of_labels_in_the_folder_of_data_is_no_data(tmp_path):
    write_images(tmp_path / "data" / "train-0.parquet", [png(i) for i in range(4)], [0, 1, 0, 1])
    write_table(tmp_path / "human" / "l-0.parquet", {"label": [1, 0]})
    write_table(tmp_path / "human" / "l-1.parquet", {"label": [1, 0]})
    train = load(tmp_path, labels=tmp_path / "human").train
    assert train.kind == "image" and train.label_N.tolist() == [1, 0, 1, 0]


def test_parts_inside_the_folder_are_no_train_rows(tmp_path):
    rows = {"a": [1.0, 2.0], "label": [0, 1]}
    write_table(tmp_path / "a.csv", rows)
    extra = write_table(tmp_path / "b.csv", rows)
    labels = write_table(tmp_path / "c.csv", {"label": [1, 0]})
    sources = load(tmp_path, validation=extra, labels=labels)
    assert sources.train.num_examples == sources.validation.num_examples == 2
    np.testing.assert_array_equal(sources.train.label_N, [1, 0])


def test_cifar10_without_a_network_says_which_file_to_put_where(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    with pytest.raises(
        DataError, match=rf"{tmp_path}.*no route.*cifar-10-python.tar.gz.*--data FO"
    ):
        load(format="cifar10")
    assert cache_folder() == tmp_path / "raysubset"


def test_cifar10_from_torchvision_has_channels_first(monkeypatch, tmp_path):
    class Stub:
        def __init__(self, root, train, download):
            size = 40 if train else 20
            rng = np.random.default_rng(size)
            self.data = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(size)]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Stub)
    sources = load(format="cifar10")
    wanted = Stub("", True, True).data[7].transpose(2, 0, 1)
    np.testing.assert_array_equal(sources.train.take([7])[0][0], wanted)
    assert sources.test.num_examples == 20
    assert sources.test.class_names[0] == "airplane"


def test_importing_the_sources_imports_neither_torchvision_nor_ray_nor_sklearn():
    code = (
        "import sys, raysubset.learn.sources, raysubset.learn.parts;"
        "print([m for m in ('torchvision', 'ray', 'sklearn', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
