from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raysubset.errors import ConfigError, DataError
from tests.learn.sources_on_disk import (
    encoded,
    load,
    pixels,
    png,
    write_file,
    write_images,
    write_table,
)


def hub_folder(tmp_path, rows=(7, 5), **columns):
    """Two train files and a test file; the image of train row i has seed i."""
    folder = tmp_path / "hub"
    first, second = rows
    images = [png(i) for i in range(first + second)]
    labels = [i % 2 for i in range(first + second)]
    write_images(folder / "train-00000-of-00002.parquet", images[:first], labels[:first])
    write_images(folder / "train-00001-of-00002.parquet", images[first:], labels[first:])
    write_images(folder / "test-00000-of-00001.parquet", [png(100), png(101)], [1, 0])
    return folder


def test_pixels_come_back_exactly_in_the_order_of_files_and_rows(tmp_path):
    sources = load(hub_folder(tmp_path))
    wanted = np.stack([pixels(i).transpose(2, 0, 1) for i in range(12)])
    np.testing.assert_array_equal(sources.train.content, wanted)
    np.testing.assert_array_equal(sources.train.label_N, np.arange(12) % 2)
    np.testing.assert_array_equal(sources.train.id_N, np.arange(12))
    assert sources.train.keys[7] == "train-00001-of-00002/0.png"
    assert sources.test.num_examples == 2
    assert (sources.validation, sources.tuning) == (None, None)


def test_the_limited_rows_keep_their_ids_pixels_and_keys(tmp_path):
    folder = hub_folder(tmp_path)
    whole, some = load(folder).train, load(folder, limit=6, seed=3).train
    assert some.num_examples == 6
    np.testing.assert_array_equal(some.content, whole.take(some.id_N)[0])
    assert some.keys == tuple(whole.keys[i] for i in some.id_N)
    assert list(some.class_count_C) == [3, 3]
    assert {load(folder, limit=6, seed=s).train.fingerprint for s in range(5)} != {some.fingerprint}


def test_other_parquet_files_are_ignored_and_named(tmp_path):
    folder = hub_folder(tmp_path)
    write_table(folder / "human-labels.parquet", {"x": [1]})
    assert "ignored human-labels.parquet" in load(folder).train.notes[0]


def test_a_folder_without_part_names_is_all_train(tmp_path):
    write_images(tmp_path / "b.parquet", [png(2), png(3)], [0, 1])
    write_images(tmp_path / "a.parquet", [png(0), png(1)], [0, 1])
    train = load(tmp_path).train
    np.testing.assert_array_equal(train.content[2], pixels(2).transpose(2, 0, 1))


def test_part_folders_and_the_folder_of_a_hub_clone_are_found(tmp_path):
    for part, seed in (("train", 0), ("test", 9)):
        write_images(tmp_path / "a" / part / "x.parquet", [png(seed), png(seed + 1)], [0, 1])
    assert load(tmp_path / "a").test.num_examples == 2
    hub_folder(tmp_path / "clone")
    write_file(tmp_path / "clone" / "README.md", b"# data")
    assert load(tmp_path / "clone").train.num_examples == 12


def test_names_that_hide_a_test_part_are_refused(tmp_path):
    write_images(tmp_path / "cifar_train.parquet", [png(0), png(1)], [0, 1])
    write_images(tmp_path / "cifar_test.parquet", [png(2), png(3)], [0, 1])
    with pytest.raises(DataError, match=r"cifar_test.parquet, cifar_train.parquet look like parts"):
        load(tmp_path)


def test_a_test_part_without_train_is_refused(tmp_path):
    write_images(tmp_path / "test.parquet", [png(0), png(1)], [0, 1])
    with pytest.raises(DataError, match=r"test.parquet but no train\* file"):
        load(tmp_path)


def test_plain_binary_and_the_column_img_are_read(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"img": [png(0), png(1)], "label": ["a", "b"]})
    train = load(path).train
    np.testing.assert_array_equal(train.content[1], pixels(1).transpose(2, 0, 1))
    assert (train.keys, train.class_names) == (None, ("a", "b"))


def test_declared_class_names_are_kept(tmp_path):
    feature = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    about = json.dumps({"info": {"features": {"label": feature}}})
    table = pa.table({"image": [{"bytes": png(i)} for i in range(4)], "label": [1, 0, 1, 0]})
    path = write_table(
        tmp_path / "x.parquet", table.replace_schema_metadata({"huggingface": about})
    )
    assert load(path).train.class_names == ("cat", "dog")


def test_f12_a_label_beyond_the_declared_names_is_refused(tmp_path):
    about = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}})
    table = pa.table({"image": [{"bytes": png(i)} for i in range(2)], "label": [1, 2]})
    path = write_table(
        tmp_path / "x.parquet", table.replace_schema_metadata({"huggingface": about})
    )
    with pytest.raises(
        DataError, match=r"label 2 \(.*x.parquet row 1\), .* only 2 class names: .*range is 0\.\.1"
    ):
        load(path)


def test_cifar10_as_parquet_gets_its_class_names(tmp_path):
    path = write_images(tmp_path / "train.parquet", [png(i) for i in range(10)], list(range(10)))
    assert load(path, format="cifar10").train.class_names[3] == "cat"


BAD_IMAGES = {
    "truncated": (png(1)[:60], "OSError|SyntaxError|truncated"),
    "text": (b"not an image", "it is no image"),
    "zero bytes": (b"", "0 bytes"),
    "null": (None, "0 bytes"),
    "16 bits": (encoded(Image.new("I;16", (6, 5)), "PNG"), "I;16 is not 8 bits deep"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n", "it is no image"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_f16_a_bad_image_is_named_with_file_row_key_and_cause(tmp_path, kind):
    bad, cause = BAD_IMAGES[kind]
    write_images(tmp_path / "train-0.parquet", [png(0), png(1)], [0, 1])
    write_images(tmp_path / "train-1.parquet", [png(2), bad, png(3)], [0, 1, 0])
    with pytest.raises(
        DataError, match=rf"1 of 5 .*train-1.parquet row 1 \(train-1/1.png\).*{cause}"
    ):
        load(tmp_path)


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_f16_a_bad_image_is_skipped_on_request_counted_and_listed(tmp_path, kind):
    images = [png(0), png(1), BAD_IMAGES[kind][0], png(3)]
    path = write_images(tmp_path / "x.parquet", images, [0, 1, 0, 1])
    train = load(path, on_bad_row="skip").train
    np.testing.assert_array_equal(train.id_N, [0, 1, 3])
    np.testing.assert_array_equal(train.content[2], pixels(3).transpose(2, 0, 1))
    assert train.keys == ("x/0.png", "x/1.png", "x/3.png")
    assert "skipped 1 bad images" in train.notes[0] and "x.parquet row 2" in train.notes[0]


def test_f16_a_decompression_bomb_is_a_bad_image(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = write_images(tmp_path / "x.parquet", [png(0), png(1, size=(11, 10))], [0, 1])
    with pytest.raises(DataError, match=r"x.parquet row 1.*DecompressionBomb"):
        load(path)


def test_an_image_of_another_size_is_named_with_both_sizes(tmp_path):
    images = [png(0), png(1), png(2, size=(7, 5))]
    path = write_images(tmp_path / "x.parquet", images, [0, 1, 0])
    with pytest.raises(DataError, match=r"row 2 .* is 7x5 pixels, but .*row 0 .* is 6x5"):
        load(path, on_bad_row="skip")


def test_gray_images_stay_gray_and_are_repeated_among_colour_ones(tmp_path):
    gray = write_images(tmp_path / "g.parquet", [png(0, "L"), png(1, "L")], [0, 1])
    assert load(gray).train.content.shape == (2, 1, 5, 6)
    images = [png(0, "L"), png(1), png(2, "L")]
    train = load(write_images(tmp_path / "m.parquet", images, [0, 1, 0])).train
    for row in (0, 2):
        np.testing.assert_array_equal(train.content[row], np.stack([pixels(row, "L")] * 3))
    assert "2 gray images among colour ones" in train.notes[0]


def test_gray_test_images_take_the_channels_of_the_train_images(tmp_path):
    write_images(tmp_path / "train.parquet", [png(0), png(1)], [0, 1])
    write_images(tmp_path / "test.parquet", [png(0, "L"), png(1, "L")], [0, 1])
    sources = load(tmp_path)
    assert sources.test.content.shape == (2, 3, 5, 6)
    assert any("gray images were repeated" in note for note in sources.test.notes)


def test_test_images_of_another_size_are_refused(tmp_path):
    write_images(tmp_path / "train.parquet", [png(0), png(1)], [0, 1])
    write_images(tmp_path / "test.parquet", [png(0, size=(8, 8)), png(1, size=(8, 8))], [0, 1])
    with pytest.raises(DataError, match=r"test images .* \(3, 8, 8\).* \(3, 5, 6\)"):
        load(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "animated"])
def test_f16_other_modes_become_rgb_and_are_counted(tmp_path, mode):
    image = Image.fromarray(pixels(0))
    odd = {
        "RGBA": lambda: encoded(image.convert("RGBA"), "PNG"),
        "P": lambda: encoded(image.convert("P"), "PNG", transparency=b"\x00\x80"),
        "CMYK": lambda: encoded(image.convert("CMYK"), "TIFF"),
        "animated": lambda: encoded(
            image, "WEBP", save_all=True, append_images=[image.rotate(90)], lossless=True
        ),
    }[mode]()
    train = load(write_images(tmp_path / "x.parquet", [odd, png(1)], [0, 1])).train
    assert train.content.shape == (2, 3, 5, 6)
    said = "first of several frames" if mode == "animated" else f"converted from {mode} to RGB"
    assert any(f"1 images were {said}" in n or f"reduced to the {said}" in n for n in train.notes)


def test_a_missing_image_column_lists_the_columns(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"picture": [png(0)], "label": [0]})
    with pytest.raises(
        DataError, match=r"x.parquet has no column image.*picture \(binary\), label"
    ):
        load(path, format="parquet-images")


def test_a_missing_label_column_lists_the_columns(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"image": [png(0)], "class": [0]})
    with pytest.raises(ConfigError, match=r"x.parquet has no column 'label'.*image, class"):
        load(path)
    with pytest.raises(ConfigError, match=r"--data.label_column=fine.*no column 'fine'"):
        load(path, label_column="fine")


def test_f17_a_file_with_other_columns_than_the_first_is_named(tmp_path):
    write_images(tmp_path / "train-0.parquet", [png(0), png(1)], [0, 1])
    write_table(tmp_path / "train-1.parquet", {"image": [{"bytes": png(2)}], "labels": [1]})
    with pytest.raises(DataError, match=r"train-1.parquet has columns image .*labels .*unlike"):
        load(tmp_path)


def test_f17_a_file_with_labels_of_another_type_is_named(tmp_path):
    write_images(tmp_path / "train-0.parquet", [png(0), png(1)], [0, 1])
    write_images(tmp_path / "train-1.parquet", [png(2)], ["dog"])
    with pytest.raises(DataError, match=r"train-1.parquet: a column has another type"):
        load(tmp_path)


def test_f17_a_cut_file_is_named(tmp_path):
    folder = hub_folder(tmp_path)
    path = folder / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet cannot be read as Parquet"):
        load(folder)


def test_f17_a_flipped_bit_is_found_where_pages_have_checksums(tmp_path):
    images = [{"bytes": png(i), "path": None} for i in range(4)]
    path = tmp_path / "x.parquet"
    columns = {"image": images, "label": [0, 1, 0, 1]}
    write_table(path, columns, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x.parquet cannot be read"):
        load(path)


def test_an_empty_file_is_named(tmp_path):
    folder = hub_folder(tmp_path)
    (folder / "train-00002-of-00003.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-00002-of-00003.parquet is empty \(0 bytes\)"):
        load(folder)


def test_a_file_beside_replaces_the_train_labels_alone(tmp_path):
    folder = hub_folder(tmp_path)
    noisy = [(i + 1) % 2 for i in range(12)]
    beside = write_table(folder / "noisy.parquet", {"worse": noisy, "other": noisy})
    sources = load(folder, labels=beside, label_column="worse")
    np.testing.assert_array_equal(sources.train.label_N, noisy)
    np.testing.assert_array_equal(sources.test.label_N, [1, 0])


def test_train_rows_need_no_label_of_their_own_when_a_file_beside_has_them(tmp_path):
    path = write_table(tmp_path / "a" / "x.parquet", {"image": [png(i) for i in range(4)]})
    beside = write_table(tmp_path / "labels.csv", {"label": ["a", "b", "b", "a"]})
    np.testing.assert_array_equal(load(path, labels=beside).train.label_N, [0, 1, 1, 0])


def test_a_file_beside_with_another_number_of_rows_is_refused(tmp_path):
    beside = write_table(tmp_path / "beside.parquet", {"label": [0, 1]})
    with pytest.raises(DataError, match=r"beside.parquet has 2 rows for 12 train rows"):
        load(hub_folder(tmp_path), labels=beside)


def test_a_column_that_the_file_beside_lacks_is_named(tmp_path):
    beside = write_table(tmp_path / "beside.parquet", {"worse": [0, 1]})
    with pytest.raises(ConfigError, match=r"label_column=worst.*columns are worse"):
        load(hub_folder(tmp_path), labels=beside, label_column="worst")


def test_real_cifar10_rows_carry_human_labels(shared_data):
    folder = shared_data / "cifar10"
    options = {"limit": 40, "format": "cifar10"}
    clean = load(folder, **options)
    assert clean.train.content.shape == (40, 3, 32, 32)
    assert list(clean.train.class_count_C) == [4] * 10
    assert clean.test.num_examples == 40
    labels = folder / "human-labels.parquet"
    worse = load(folder, labels=labels, label_column="worse_label", limit=400, format="cifar10")
    aggre = load(folder, labels=labels, label_column="aggre_label", limit=400, format="cifar10")
    assert worse.train.class_names[0] == "airplane"
    assert worse.train.fingerprint != aggre.train.fingerprint
    assert worse.test.fingerprint == aggre.test.fingerprint
