"""Image files that are no images, or odd ones: named, never waited for, never a huge array."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysubset.errors import DataError
from raysubset.learn import sources
from raysubset.learn.paged import is_paged
from tests.learn.sources_on_disk import encoded, load, pixels, png, write_file, write_images


def with_odd_file(folder: Path, name: str, content: bytes | None) -> Path:
    """Write four good images, and an odd file among them; None for no file."""
    for i in range(4):
        write_file(folder / "ab"[i // 2] / f"{i}.png", png(i))
    if content is not None:
        write_file(folder / "a" / name, content)
    return folder


def declared(width: int, height: int) -> bytes:
    """Return a PNG of a hundred bytes that declares this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["x.jpg", "x.bmp", "x.gif", "X.PNG"])
def test_f16_a_wrong_extension_does_not_matter_to_a_whole_image(tmp_path: Path, name: str):
    train = load(with_odd_file(tmp_path, name, png(9))).train
    assert train.keys is not None
    content, _ = train.take([train.keys.index(f"a/{name}")])
    np.testing.assert_array_equal(content[0], pixels(9).transpose(2, 0, 1))


BAD: dict[str, tuple[bytes, str]] = {
    "text": (b"a page of text", "no image"),
    "zero bytes": (b"", "empty"),
    "header alone": (png(0)[:33], "no image"),
    "cut": (png(0)[:-40], "truncated|OSError"),
    "cut jpeg": (encoded(Image.fromarray(pixels(0)), "JPEG")[:-60], "truncated|OSError"),
    "flipped byte": (png(0)[:60] + bytes([png(0)[60] ^ 255]) + png(0)[61:], "Error"),
    "bomb": (declared(30_000, 30_000), "DecompressionBombError"),
    "half a bomb": (declared(12_000, 12_000), "DecompressionBombWarning"),
    "16 bits": (encoded(Image.new("I;16", (6, 5)), "TIFF"), "not 8 bits deep"),
    "32 bits": (encoded(Image.new("I", (6, 5)), "TIFF"), "not 8 bits deep"),
    "floats": (encoded(Image.new("F", (6, 5)), "TIFF"), "not 8 bits deep"),
    "PDF": (b"%PDF-1.4\n", "no image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_f16_a_file_that_is_no_usable_image_is_named_with_its_cause_or_left_out(
    tmp_path: Path, kind: str
):
    content, cause = BAD[kind]
    folder = with_odd_file(tmp_path, "odd.png", content)
    with pytest.raises(DataError, match=rf"1 of 5 images.*a/odd\.png: .*({cause})"):
        load(folder)
    train = load(folder, on_bad_row="skip").train
    assert train.keys == ("a/0.png", "a/1.png", "b/2.png", "b/3.png")
    (bad,) = train.skipped
    assert bad.where.endswith("a/odd.png") and bad.row == 2 and bad.cause == "unreadable image"


def test_f16_pillow_s_limit_of_pixels_stays_on(tmp_path: Path):
    load(with_odd_file(tmp_path, "more.png", png(9)))
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3


@pytest.mark.parametrize("kind", ["pipe", "device", "broken link"])
def test_f16_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str):
    folder = with_odd_file(tmp_path, "odd.png", None)
    odd = folder / "a" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)  # who opens it to read waits for a writer
    else:
        odd.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"1 of 5 images.*a/odd\.png"):
        load(folder)
    assert load(folder, on_bad_row="skip").train.num_examples == 4


def test_f16_images_that_all_together_are_beyond_memory_lie_in_a_file_if_the_disk_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_images(tmp_path / "x.parquet", [png(i) for i in range(4)], [0, 1, 0, 1])
    monkeypatch.setattr(sources, "memory_bytes", lambda: 2 * 4 * 3 * 6 * 5)
    here = load(path).train
    monkeypatch.setattr(sources, "memory_bytes", lambda: 2 * 4 * 3 * 6 * 5 - 1)
    there = load(path).train
    assert (is_paged(here.content), is_paged(there.content)) == (False, True)
    assert here.fingerprint == there.fingerprint

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"row 0 .*is 6x5 pixels, and 4 images .*--data\.limit"):
        load(path)
