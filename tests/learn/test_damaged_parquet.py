"""Parquet that somebody else wrote, damaged: read, or refused in a sentence; nobody aborts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raysubset.errors import DataError
from tests.learn.sources_on_disk import load, png, write_images, write_table

LABEL = [0, 1] * 20


def table(path: Path) -> Path:
    columns = {"a": np.arange(40.0), "b": np.arange(40) % 3, "label": LABEL}
    return write_table(path, columns, write_page_checksum=True)


def images(path: Path) -> Path:
    content: list[bytes | None] = [png(i) for i in range(40)]
    return write_images(path, content, LABEL)


# In a process of its own: what a test asks is whether that process lives.
DAMAGE = """
import json
import sys
from pathlib import Path
import numpy as np
from raysubset.errors import RaySubsetError
from tests.learn.sources_on_disk import load

counts = {}
for path, seed in ((Path(path), seed) for path in sys.argv[1:] for seed in range(100)):
    if not seed:
        whole, wanted = path.read_bytes(), load(path).train
        told = counts[path.name] = {"read": 0, "other": 0, "refused": 0}
    draw, content = np.random.default_rng(seed), bytearray(whole)
    if seed % 4:  # the footer, a tenth of the file, gets half of the flips
        start = len(content) * 9 // 10 if seed % 2 else 0
        content[draw.integers(start, len(content))] ^= 1 << int(draw.integers(8))
    else:
        content = content[: draw.integers(len(content))]
    path.write_bytes(content)
    try:
        train = load(path).train
    except RaySubsetError as error:
        assert str(path) in str(error), error
        told["refused"] += 1
        continue
    told["read" if train.fingerprint == wanted.fingerprint else "other"] += 1
print(json.dumps(counts))
"""


def test_f17_a_damaged_file_is_read_or_refused_by_name_and_never_ends_the_process(
    tmp_path: Path,
):
    paths = [table(tmp_path / "table.parquet"), images(tmp_path / "images.parquet")]
    command = [sys.executable, "-W", "ignore", "-c", DAMAGE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert set(counts) == {path.name for path in paths}
    assert all(told["refused"] > 50 for told in counts.values()), counts


def test_f17_with_page_checksums_no_flipped_bit_of_a_value_is_read(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=40)
    columns = {"a": values, "label": LABEL}
    path = write_table(
        tmp_path / "x.parquet", columns, write_page_checksum=True, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    content = path.read_bytes()
    at = content.index(values.tobytes())
    for place in range(at, at + values.nbytes, 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.parquet cannot be read.*fetch or write it again"):
            load(path)
