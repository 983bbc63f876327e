"""Augmentation per sample, on the batch and on its device, from keys instead of a stream.

What happens to an example in an epoch is a function of (key, id): neither the number of ranks,
the order of rows nor a retry changes it. The key is derive_key(seed, "augment", epoch).
Shape letters of images: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raysubset.core.keys import hash_ids
from raysubset.errors import ConfigError

AugmentName = Literal["auto", "none", "crop", "crop_flip"]
Kind = Literal["image", "tabular"]

_FIELD_BITS = 20  # one hash feeds three fields of 20 bits; a draw is off uniform by < 1e-5


@dataclass(frozen=True, kw_only=True)
class Augment:
    """A random crop after zero padding, then a random horizontal flip (the CIFAR recipe)."""

    crop_pad: int
    """Pixels of zeros added on every side before the crop to the old size; 0 = no crop."""

    flip: bool
    """Whether each image is mirrored left to right with probability 1/2."""

    def __post_init__(self) -> None:
        """Refuse a negative padding."""
        if self.crop_pad < 0:
            raise ConfigError(f"crop_pad={self.crop_pad} must be 0 or more; 0 means no crop")

    def __call__(self, image_BCHW: Tensor, ids_B: Tensor, key: int) -> Tensor:
        """Return the images as `key` alters them: same shape, dtype and device.

        Shapes: (B, C, H, W), int64 (B,) -> (B, C, H, W). Zeros are pixels: augment before
        normalising.
        """
        assert len(ids_B) == len(image_BCHW)
        return self.altered(image_BCHW, self.draws(ids_B.to(image_BCHW.device), key))

    def draws(self, ids_K: Tensor, key: int) -> Tensor:
        """Return (mirrored, top, left) of each id's window.

        Shape: int64 (K,) -> int64 (3, K). An epoch's are drawn at once: thirty small operations.
        """
        hash_K = hash_ids(ids_K, key)
        mirrored_K = _field(hash_K, 2, 2) if self.flip else torch.zeros_like(hash_K)
        top_K = _field(hash_K, 0, 2 * self.crop_pad + 1)
        return torch.stack([mirrored_K, top_K, _field(hash_K, 1, 2 * self.crop_pad + 1)])

    def altered(self, image_BCHW: Tensor, draws_3B: Tensor) -> Tensor:
        """Return the images as these draws alter them. Shape: (B, C, H, W) -> (B, C, H, W)."""
        if len(image_BCHW) == 0 or (self.crop_pad == 0 and not self.flip):
            return image_BCHW
        canvas = self._canvas(image_BCHW)
        # every window of every image is a row of an overlapping view, so a crop is one row, copied
        # whole: 8x quicker than a gather by pixel, and no index per pixel
        size_CHW, stride_CHW = image_BCHW.shape[1:], canvas.stride()[2:]
        last_start = sum((s - 1) * step for s, step in zip(size_CHW, stride_CHW, strict=True))
        windows_SCHW = canvas.as_strided((canvas.numel() - last_start, *size_CHW), (1, *stride_CHW))
        return windows_SCHW.index_select(0, self._window_B(canvas, draws_3B))

    def _canvas(self, image_BCHW: Tensor) -> Tensor:
        """Return the padded images, and with `flip` a mirrored copy behind them.

        Shapes: (B, C, H, W) -> (1 or 2, B, C, H + 2 pad, W + 2 pad), contiguous.
        """
        batch, channels, height, width = image_BCHW.shape
        pad = self.crop_pad
        copies = 2 if self.flip else 1
        canvas = image_BCHW.new_zeros((copies, batch, channels, height + 2 * pad, width + 2 * pad))
        inner = canvas[..., pad : pad + height, pad : pad + width]
        inner[0] = image_BCHW
        if self.flip:
            inner[1] = image_BCHW.flip(-1)
        return canvas

    def _window_B(self, canvas: Tensor, draws_3B: Tensor) -> Tensor:
        """Return where each image's window starts in the flat canvas. Shape: int64 (B,)."""
        copy_step, image_step, _, row_step, _ = canvas.stride()
        mirrored_B, top_B, left_B = draws_3B
        end = canvas.shape[1] * image_step
        start_B = torch.arange(0, end, image_step, device=canvas.device)
        start_B.add_(top_B, alpha=row_step).add_(left_B)
        if self.flip:
            # the mirror of the window at `left` stands at 2 pad - left in the mirrored copy
            to_mirror_B = (copy_step + 2 * self.crop_pad) - 2 * left_B
            start_B.addcmul_(mirrored_B, to_mirror_B)
        return start_B


def augment_for(name: AugmentName, *, kind: Kind, in_shape: tuple[int, ...]) -> Augment | None:
    """Return the augmentation called `name` for one example's shape; None where there is none.

    "auto" crops grey images, crops and flips colour ones, and leaves tables alone. The padding is
    an eighth of the shorter side (4 at 32), at least 1. Raises ConfigError for an unknown name and
    for an image's augmentation of a table.
    """
    if name not in ("auto", "none", "crop", "crop_flip"):
        raise ConfigError(
            f"training.augment={name!r} is unknown; choose auto, none, crop or crop_flip"
        )
    if name == "none" or (name == "auto" and kind == "tabular"):
        return None
    if kind == "tabular":
        raise ConfigError(
            f"training.augment={name!r} alters images, and this data is tabular; use 'auto'"
        )
    channels, height, width = in_shape
    flip = name == "crop_flip" or (name == "auto" and channels > 1)
    return Augment(crop_pad=max(1, min(height, width) // 8), flip=flip)


def _field(hash_B: Tensor, index: int, count: int) -> Tensor:
    """Return a draw from 0..count-1 out of the hash's field `index`. Shape: (B,) -> int64 (B,)."""
    bits_B = (hash_B >> (index * _FIELD_BITS)) & ((1 << _FIELD_BITS) - 1)
    return (bits_B * count) >> _FIELD_BITS
