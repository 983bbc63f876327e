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
    columns = {"a": np.arange(40.0), "word": ["u", "v"] * 20, "label": LABEL}
    return write_table(path, columns, write_page_checksum=True)


def images(path: Path) -> Path:
    return write_images(path, [png(i) for i in range(40)], LABEL)


# In a process of its own: what a test asks is whether that process lives.
DAMAGE = """
import json
import sys
from pathlib import Path
import numpy as np
from raysubset.errors import DataError
from tests.learn.sources_on_disk import load

path, seeds = Path(sys.argv[1]), int(sys.argv[2])
whole, wanted = path.read_bytes(), load(path).train
counts = {"read": 0, "other": 0, "refused": 0}
for seed in range(seeds):
    draw, content = np.random.default_rng(seed), bytearray(whole)
    if seed % 4:  # the footer, a tenth of the file, gets half of the flips
        start = len(content) * 9 // 10 if seed % 2 else 0
        content[draw.integers(start, len(content))] ^= 1 << int(draw.integers(8))
    else:
        content = content[: draw.integers(len(content))]
    path.write_bytes(content)
    try:
        train = load(path).train
    except DataError as error:
        assert str(path) in str(error), error
        counts["refused"] += 1
        continue
    same = train.fingerprint == wanted.fingerprint
    counts["read" if same else "other"] += 1
print(json.dumps(counts))
"""


@pytest.mark.parametrize("write", [table, images])
def test_f17_a_damaged_file_is_read_or_refused_by_name_and_never_ends_the_process(
    write, tmp_path: Path
):
    command = [sys.executable, "-W", "ignore", "-c", DAMAGE, str(write(tmp_path / "x.parquet"))]
    done = subprocess.run([*command, "150"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["refused"] > 75, counts


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
