"""Pictures: examples as small images inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from raysubset.learn.data import Dataset

Picture = NDArray[np.uint8]
_MAX_SIDE = 128
_COLOURS = 3


class Pictures(Mapping[int, Picture]):
    """The images of a dataset by id, each looked up when it is asked for."""

    def __init__(self, dataset: Dataset) -> None:
        """Look into this dataset; use `pictures_of`."""
        self.dataset = dataset

    def __getitem__(self, id_: int) -> Picture:
        """Return one example's uint8 (channels, height, width)."""
        at = int(np.searchsorted(self.dataset.id_N, id_))
        if at == len(self) or self.dataset.id_N[at] != id_:
            raise KeyError(id_)
        return self.dataset.content[at].astype(np.uint8, copy=False)

    def __iter__(self) -> Iterator[int]:
        """Yield every id."""
        return (int(id_) for id_ in self.dataset.id_N)

    def __len__(self) -> int:
        """The number of examples."""
        return self.dataset.num_examples


def pictures_of(dataset: Dataset) -> Pictures | None:
    """Return the images of a dataset; None for one that holds no images."""
    return Pictures(dataset) if dataset.kind == "image" else None


def data_uri(picture: Picture) -> str:
    """Return an image, uint8 (channels, height, width), as a PNG inside an address."""
    from PIL import Image

    colours = picture[:_COLOURS] if len(picture) >= _COLOURS else picture[:1]
    pixels = colours[0] if len(colours) == 1 else np.ascontiguousarray(colours.transpose(1, 2, 0))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
