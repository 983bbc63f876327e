"""A person's own map-style datasets: every item read once, in order; what fails is named."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset, random_split

from raysubset.errors import ConfigError, DataError
from tests.learn.sources_on_disk import load, pixels, png, write_file

ROWS = 12
ARRAYS = [pixels(i) for i in range(ROWS)]
CHW = np.stack(ARRAYS).transpose(0, 3, 1, 2)
Y = [i % 3 for i in range(ROWS)]


class Rows:
    """A map-style dataset of given items, which notes what is read."""

    def __init__(self, items: list[Any], **said: Any) -> None:
        self.items, self.read = items, []
        self.__dict__.update(said)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        self.read.append(i)
        item = self.items[i]
        if isinstance(item, BaseException):
            raise item
        return item() if callable(item) else item


@pytest.fixture
def give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Let mydata:build return something; the module lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    made: list[Any] = []
    monkeypatch.setitem(sys.modules, "made_by_test", SimpleNamespace(made=made))  # pyright: ignore[reportArgumentType]
    (tmp_path / "mydata.py").write_text(
        "from made_by_test import made\ndef build():\n    return made[-1]\n"
    )
    monkeypatch.delitem(sys.modules, "mydata", raising=False)

    def returns(value: Any) -> str:
        made.append(value)
        return "mydata:build"

    return returns


FORMS: dict[str, Callable[[int], Any]] = {
    "pillow": lambda i: Image.fromarray(ARRAYS[i]),
    "array HWC": lambda i: ARRAYS[i],
    "array CHW": lambda i: ARRAYS[i].transpose(2, 0, 1),
    "tensor CHW": lambda i: torch.from_numpy(ARRAYS[i].transpose(2, 0, 1).copy()),
    "tensor HWC": lambda i: torch.from_numpy(ARRAYS[i]),
    "ToTensor": lambda i: torch.from_numpy(ARRAYS[i].transpose(2, 0, 1).copy()).float() / 255,
    "bfloat16-free double": lambda i: torch.from_numpy(CHW[i].copy()).double() / 255,
    "int64": lambda i: torch.from_numpy(CHW[i].copy()).long(),
    "lists": lambda i: ARRAYS[i].tolist(),
}
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "pair": lambda x, y: (x, y),
    "tensor label": lambda x, y: (x, torch.tensor(y)),
    "label of one": lambda x, y: (x, torch.tensor([y])),
    "numpy label": lambda x, y: (x, np.int64(y)),
    "list": lambda x, y: [x, y],
    "triple": lambda x, y: (x, y, "more"),
    "dict": lambda x, y: {"image": x, "label": y},
    "tokens": lambda x, y: {"pixel_values": x, "labels": y, "other": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_is_the_same_bytes_in_whatever_form(give: Any, form: str):
    data = Rows([(FORMS[form](i), Y[i]) for i in range(ROWS)])
    train = load(give(data)).train
    np.testing.assert_array_equal(train.content, CHW)
    np.testing.assert_array_equal(train.label_N, Y)
    assert data.read == list(range(ROWS)) and train.notes == ()


@pytest.mark.parametrize("pair", PAIRS)
def test_a_label_is_found_in_whatever_item(give: Any, pair: str):
    data = Rows([PAIRS[pair](ARRAYS[i], Y[i]) for i in range(ROWS)])
    train = load(give(data)).train
    np.testing.assert_array_equal(train.content, CHW)
    np.testing.assert_array_equal(train.label_N, Y)


@pytest.mark.parametrize("label", [["b", "a", "c"], [True, False, True]])
def test_labels_may_be_text_or_truth(give: Any, label: list[Any]):
    train = load(give(Rows([(ARRAYS[i], label[i % 3]) for i in range(ROWS)]))).train
    assert [train.class_names[c] for c in train.label_N] == [str(label[i % 3]) for i in range(ROWS)]


def test_vectors_are_the_table_with_these_columns(give: Any, tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    data = TensorDataset(torch.from_numpy(rows), torch.tensor(Y))
    np.savez(tmp_path / "d.npz", x=rows, y=np.array(Y))
    train = load(give(data)).train
    assert train.fingerprint == load(tmp_path / "d.npz").train.fingerprint
    assert train.feature_names == ("x0", "x1", "x2", "x3")


def test_declared_classes_name_the_labels_and_targets_label_bare_items(give: Any):
    data = Rows(list(ARRAYS), targets=torch.tensor(Y), classes=["cat", "dog", "owl"])
    train = load(give(data)).train
    assert train.class_names == ("cat", "dog", "owl") and train.label_N.tolist() == Y


def test_a_folder_of_torchvision_is_the_image_folder_with_its_paths_as_keys(
    give: Any, tmp_path: Path
):
    from torchvision.datasets import ImageFolder

    for i in range(ROWS):
        write_file(tmp_path / "pets" / "abc"[i % 3] / f"{i:02}.png", png(i))
    own, usual = (
        load(give(ImageFolder(str(tmp_path / "pets")))).train,
        load(tmp_path / "pets").train,
    )
    assert own.fingerprint == usual.fingerprint and own.keys == usual.keys
    half = Subset(ImageFolder(str(tmp_path / "pets")), [0, 4, 9, 5])
    train = load(give(half)).train
    assert usual.keys is not None
    assert train.keys == tuple(usual.keys[i] for i in (0, 4, 9, 5))
    assert train.class_names == usual.class_names


def test_parts_come_as_a_dict_or_as_attributes(give: Any):
    parts = {
        name: Rows([(ARRAYS[i], Y[i]) for i in rows])
        for name, rows in (("train", range(12)), ("val", range(3)), ("test", range(3, 9)))
    }
    for made in (
        parts,
        {**parts, "val": None, "validation": parts["val"]},
        SimpleNamespace(**parts),
    ):
        found = load(give(made))
        assert found.validation is not None and found.test is not None
        np.testing.assert_array_equal(found.validation.content, CHW[:3])
        np.testing.assert_array_equal(found.test.content, CHW[3:9])
    found = load(give({**parts, "extra": parts["val"]}))
    assert "ignored extra of mydata:build" in found.train.notes


def test_a_dataset_itself_may_be_named_and_a_part_of_ones_own(give: Any, tmp_path: Path):
    give(Rows([(ARRAYS[i], Y[i]) for i in range(ROWS)]))
    (tmp_path / "mydata.py").write_text(
        "from made_by_test import made\nrows = made[-1]\ndef build(): return made[-1]\n"
        "def more(): return [made[-1][i] for i in range(3)]\n"
    )
    found = load("mydata:rows", test="mydata:more")
    assert found.test is not None and found.test.num_examples == 3
    np.testing.assert_array_equal(found.train.content, CHW)
    with pytest.raises(ConfigError, match="gives one dataset, which is the train part already"):
        load("mydata:build", test="mydata:build")
    with pytest.raises(ConfigError, match=r"--data\.test=more\.csv is no module:factory"):
        load("mydata:build", test="more.csv")


def test_no_random_state_is_changed_and_what_is_drawn_is_the_same_every_time(give: Any):
    def item() -> Any:
        draw = (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
        return torch.tensor(draw)

    data = give(Rows([(lambda i=i: (item(), Y[i])) for i in range(ROWS)]))
    random.seed(5), np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    first = load(data).train
    after = (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
    random.seed(5), np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    assert after == (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
    assert load(data).train.fingerprint == first.fingerprint
    assert len(np.unique(first.content)) == first.content.size


def test_a_split_by_torch_is_the_same_every_time(give: Any, tmp_path: Path):
    give(Rows([(ARRAYS[i], Y[i]) for i in range(ROWS)]))
    (tmp_path / "mydata.py").write_text(
        "from made_by_test import made\nfrom torch.utils.data import random_split\n"
        "def build():\n    a, b = random_split(made[-1], [9, 3])\n"
        "    return {'train': a, 'test': b}\n"
    )
    assert random_split
    assert load("mydata:build").train.fingerprint == load("mydata:build").train.fingerprint


def test_gray_among_colour_is_repeated_and_told_as_in_folders(give: Any):
    items = [
        (Image.fromarray(ARRAYS[i]).convert("L" if i % 2 else "RGBA"), Y[i]) for i in range(ROWS)
    ]
    notes = " ".join(load(give(Rows(items))).train.notes)
    assert (
        "6 gray images among colour ones" in notes and "6 images were converted from RGBA" in notes
    )


def fails(i: int) -> tuple[list[Any], ValueError]:
    items: list[Any] = [(ARRAYS[i], Y[i]) for i in range(ROWS)]
    error = ValueError("no such scan")
    items[i] = error
    return items, error


def test_f16_an_item_that_fails_is_named_or_left_out(give: Any):
    items, _ = fails(7)
    with pytest.raises(
        DataError, match=r"build train item 7 of 12 failed with ValueError: no such"
    ):
        load(give(Rows(items)))
    train = load(give(Rows(items)), on_bad_row="skip").train
    assert train.id_N.tolist() == [i for i in range(ROWS) if i != 7]
    (bad,) = train.skipped
    assert (bad.row, bad.cause, bad.detail) == (7, "unreadable item", "ValueError: no such scan")
    assert "skipped 1 items that failed" in train.notes[0]


def test_f16_a_failing_vector_is_left_out_also_where_labels_stand_beside(give: Any, tmp_path: Path):
    items: list[Any] = [(np.arange(3.0) + i, 0) for i in range(ROWS)]
    items[4] = KeyError("gone")
    np.save(tmp_path / "y.npy", np.array(Y))
    train = load(give(Rows(items)), labels=tmp_path / "y.npy", on_bad_row="skip").train
    assert [bad.row for bad in train.skipped] == [4]
    assert train.label_N.tolist() == [y for i, y in enumerate(Y) if i != 4]
    np.testing.assert_array_equal(train.content[:, 0], [i for i in range(ROWS) if i != 4])


def test_f16_a_lazy_image_that_is_damaged_is_an_item_that_fails(give: Any, tmp_path: Path):
    for i in range(ROWS):
        (tmp_path / f"{i}.png").write_bytes(png(i) if i != 3 else png(i)[:-40])
    data = Rows([(lambda i=i: (Image.open(tmp_path / f"{i}.png"), Y[i])) for i in range(ROWS)])
    train = load(give(data), on_bad_row="skip").train
    assert [bad.row for bad in train.skipped] == [3]


def with_item(i: int, item: Any) -> Rows:
    items: list[Any] = [(ARRAYS[k], Y[k]) for k in range(ROWS)]
    items[i] = item
    return Rows(items)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "another size": (lambda: with_item(5, (pixels(0, size=(9, 9)), 0)), "item 5 is 9x9 pixels"),
    "a vector among images": (lambda: with_item(5, (np.zeros(3), 0)), "item 5 is a vector"),
    "an image among vectors": (
        lambda: Rows([(np.zeros(3), 0), (ARRAYS[0], 1)]),
        "item 1 is an image",
    ),
    "another width": (
        lambda: Rows([(np.zeros(3), 0), (np.zeros(4), 1)]),
        "item 1 has 4 features, .*item 0 3",
    ),
    "a missing label": (lambda: with_item(5, (ARRAYS[5], None)), "1 of 12 labels are missing"),
    "no labels": (lambda: Rows(list(ARRAYS)), "its items have no label"),
    "a label of another type": (lambda: with_item(5, (ARRAYS[5], "a")), "item 5 has the label 'a'"),
    "a label that is a list": (lambda: with_item(0, (ARRAYS[0], [1, 0])), "item 0 has a label of"),
    "a negative label": (lambda: with_item(5, (ARRAYS[5], -1)), "negative labels"),
    "targets of another number": (
        lambda: Rows(list(ARRAYS), targets=[0, 1]),
        "2 targets for 12 items",
    ),
    "a label beyond the classes": (
        lambda: Rows([(a, y) for a, y in zip(ARRAYS, Y, strict=True)], classes=["a", "b"]),
        "label 2",
    ),
    "nothing": (lambda: Rows([]), "holds no item"),
    "no images": (lambda: Rows([("a text", 0)] * 3), "item 0 is str"),
    "tokens": (lambda: Rows([{"input_ids": [1], "label": 0}] * 3), "item 0 is a dict of input_ids"),
    "normalised": (
        lambda: Rows([(a / 64.0 - 2, y) for a, y in zip(ARRAYS, Y, strict=True)]),
        "item 0 has float64 values .*Leave normalisation out",
    ),
    "deep": (lambda: Rows([(Image.new("I;16", (4, 4)), 0)] * 3), "item 0: mode I;16 is not 8 bits"),
    "channels": (lambda: Rows([(np.zeros((4, 4, 5), np.uint8), 0)] * 3), "no axis has 1 or 3"),
    "all fail": (lambda: Rows([ValueError("x")] * 3), "item 0 of 3 failed"),
    "no dataset": (lambda: 3, "the factory gave int"),
    "an iterable": (lambda: iter([1]), "the factory gave list_iterator"),
    "two datasets": (lambda: (Rows([]), Rows([])), "the factory gave tuple"),
    "no train": (lambda: {"test": Rows([])}, "gave dict without train"),
    "a part that is none": (lambda: {"train": Rows([]), "test": 3}, "which of test is none"),
    "two of a part": (
        lambda: {"train": Rows([]), "val": Rows([]), "valid": Rows([])},
        "are the validation part",
    ),
    "parts of two kinds": (
        lambda: {"train": with_item(0, (ARRAYS[0], 0)), "test": Rows([(np.zeros(3), 0)])},
        "images and test feature vectors",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_data_is_refused_by_item(give: Any, case: str):
    make, said = REFUSED[case]
    with pytest.raises(DataError, match=said):
        load(give(make()))


MODULES = {
    "raise ValueError('boom')": "importing 'mydata' failed with ValueError: boom",
    "def bild(): pass": r"has no 'build' \(did you mean 'bild'\?\)",
    "def build(): raise KeyError('k')": r"called with \(\), failed with KeyError: 'k'",
    "def build(root): pass": "everything else needs a default",
    "build = 3": "it is of type int; name a function",
}


@pytest.mark.parametrize("source", MODULES)
def test_a_factory_that_fails_is_told_with_its_cause(give: Any, tmp_path: Path, source: str):
    give(None)
    (tmp_path / "mydata.py").write_text(source)
    with pytest.raises(DataError, match=MODULES[source]) as error:
        load("mydata:build")
    assert "--data=mydata:build" in str(error.value)


def test_a_file_of_this_name_is_a_file(give: Any, tmp_path: Path):
    give(None)
    (tmp_path / "mydata:build").mkdir()
    with pytest.raises(DataError, match="nothing that can be read"):
        load("mydata:build")
