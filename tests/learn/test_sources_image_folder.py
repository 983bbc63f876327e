from __future__ import annotations

import numpy as np
import pytest

from raysubset.errors import DataError
from tests.learn.sources_on_disk import load, pixels, png, write_file


def class_folders(root, cats=3, dogs=2):
    for i in range(cats):
        write_file(root / "cat" / f"{i}.png", png(i))
    for i in range(dogs):
        write_file(root / "dog" / f"{i}.png", png(100 + i))
    return root


def test_rows_stand_in_the_order_of_class_and_path_with_paths_as_keys(tmp_path):
    train = load(class_folders(tmp_path / "pets")).train
    assert train.name == "pets"
    assert train.class_names == ("cat", "dog")
    assert train.keys == ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png")
    np.testing.assert_array_equal(train.label_N, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(train.content[4], pixels(101).transpose(2, 0, 1))


def test_part_folders_give_parts_of_their_own(tmp_path):
    for part in ("train", "val", "test"):
        class_folders(tmp_path / part)
    class_folders(tmp_path / "backup")
    sources = load(tmp_path)
    assert sources.validation.num_examples == sources.test.num_examples == 5
    assert "ignored backup" in sources.train.notes[0]


def test_a_share_leaves_the_files_of_that_part_unread(tmp_path):
    for part in ("train", "val"):
        class_folders(tmp_path / part)
    sources = load(tmp_path, validation=0.25)
    assert sources.validation is None
    assert "the validation files" in sources.train.notes[0]


def test_a_class_may_be_called_test(tmp_path):
    class_folders(tmp_path)
    write_file(tmp_path / "test" / "0.png", png(9))
    assert load(tmp_path).train.class_names == ("cat", "dog", "test")


def test_parts_without_train_and_two_folders_for_one_part_are_refused(tmp_path):
    class_folders(tmp_path / "a" / "test")
    with pytest.raises(DataError, match="holds test; parts need one folder each, train among"):
        load(tmp_path / "a", format="image-folder")
    for part in ("train", "val", "validation"):
        class_folders(tmp_path / "b" / part)
    with pytest.raises(DataError, match="holds train, val, validation"):
        load(tmp_path / "b")


def test_hidden_files_are_no_rows_and_other_files_are_counted(tmp_path):
    class_folders(tmp_path)
    write_file(tmp_path / "cat" / ".hidden.png", b"x")
    write_file(tmp_path / "cat" / "about.txt", b"x")
    train = load(tmp_path).train
    assert train.num_examples == 5
    assert "ignored 1 files" in train.notes[0]


def test_f13_an_empty_class_folder_is_told(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "bird").mkdir()
    train = load(tmp_path).train
    assert train.class_names == ("cat", "dog")
    assert "bird holds no image" in train.notes[0]


def test_f16_an_unreadable_file_is_named_or_skipped(tmp_path):
    class_folders(tmp_path)
    write_file(tmp_path / "dog" / "bad.jpg", b"\xff\xd8\xff\xe0 cut")
    write_file(tmp_path / "dog" / "none.png", b"")
    with pytest.raises(DataError, match=r"2 of 7.*dog/bad.jpg.*dog/none.png: it is empty"):
        load(tmp_path)
    train = load(tmp_path, on_bad_row="skip").train
    np.testing.assert_array_equal(train.id_N, [0, 1, 2, 3, 4])
    assert "skipped 2 bad images" in train.notes[0]


def test_sizes_that_differ_name_two_files_and_the_remedy(tmp_path):
    class_folders(tmp_path)
    write_file(tmp_path / "dog" / "wide.png", png(7, size=(9, 5)))
    with pytest.raises(DataError, match=r"dog/wide.png is 9x5 .*cat/0.png is 6x5.*resize"):
        load(tmp_path)


def test_images_without_class_folders_are_refused_with_the_layout(tmp_path):
    write_file(tmp_path / "0.png", png(0))
    with pytest.raises(DataError, match=r"holds images but no class folders.*ROOT/class/image.png"):
        load(tmp_path, format="image-folder")
    with pytest.raises(DataError, match=r"nothing that can be read \(0.png\)"):
        load(tmp_path)


def test_f13_a_class_that_only_the_test_part_has_is_named_with_its_count(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test")
    for i in range(2):
        write_file(tmp_path / "test" / "fish" / f"{i}.png", png(i))
    with pytest.raises(DataError, match=r"class folders of .*test has classes.*'fish' \(2 rows\)"):
        load(tmp_path)


def test_a_part_of_ones_own_is_a_path(tmp_path):
    class_folders(tmp_path / "all")
    class_folders(tmp_path / "mine", cats=1, dogs=1)
    assert load(tmp_path / "all", test=tmp_path / "mine").test.num_examples == 2


def test_decoding_in_threads_keeps_every_image_in_its_place(tmp_path):
    for i in range(300):
        write_file(tmp_path / "ab"[i % 2] / f"{i:03}.png", png(i))
    train = load(tmp_path).train
    seeds = [int(key.split("/")[1][:3]) for key in train.keys]
    wanted = np.stack([pixels(seed).transpose(2, 0, 1) for seed in seeds])
    np.testing.assert_array_equal(train.content, wanted)
