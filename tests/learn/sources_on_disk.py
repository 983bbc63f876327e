"""Small sources written to disk for the tests, and `load` with every option at its default."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from PIL import Image

from raysubset.learn.sources import Sources, load_sources

DEFAULTS: dict[str, Any] = {
    "path": None,
    "format": "auto",
    "labels": None,
    "label_column": None,
    "validation_label_column": None,
    "validation": None,
    "tuning": None,
    "test": None,
    "on_bad_row": "refuse",
    "limit": None,
    "seed": 0,
}


def load(path: Path | str | None = None, **options: Any) -> Sources:
    options = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    return load_sources(**{**DEFAULTS, "path": None if path is None else str(path), **options})


def pixels(seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Random pixels of a mode: (height, width) or (height, width, bands)."""
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}[mode]
    shape = (size[1], size[0], *bands)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> bytes:
    return encoded(Image.fromarray(pixels(seed, mode, size)), "PNG")


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def write_images(path: Path, images: list[bytes | None], labels: Any, **columns: Any) -> Path:
    """Write images in the layout of the Hugging Face hub."""
    cells = [{"bytes": image, "path": f"{path.stem}/{i}.png"} for i, image in enumerate(images)]
    return write_table(path, {"image": cells, "label": labels, **columns})


def write_table(path: Path, columns: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path, **options)
    return path


def write_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
