"""Laws of augmentation: a function of (key, id), equal to slicing sample by sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from raysubset.core.keys import derive_key, hash_ids
from raysubset.errors import ConfigError
from raysubset.learn.augment import Augment, augment_for

KEY = derive_key(0, "augment", 3)
CROP_FLIP = Augment(crop_pad=4, flip=True)


def draws(example: int, key: int, pad: int) -> tuple[int, int, bool]:
    """Return the crop's top and left and whether to mirror, in plain Python integers."""
    bits = int(hash_ids(torch.tensor([example]), key)) % 2**64
    top, left, mirrored = ((bits >> shift) % 2**20 for shift in (0, 20, 40))
    return top * (2 * pad + 1) >> 20, left * (2 * pad + 1) >> 20, mirrored >= 2**19


def slowly(augment: Augment, image_BCHW: Tensor, ids_B: Tensor, key: int) -> Tensor:
    """Pad, slice and mirror one image after the other."""
    out = []
    for image_CHW, example in zip(image_BCHW, ids_B.tolist(), strict=True):
        top, left, mirrored = draws(example, key, augment.crop_pad)
        padded_CHW = functional.pad(image_CHW, (augment.crop_pad,) * 4)
        height, width = image_CHW.shape[1:]
        crop_CHW = padded_CHW[:, top : top + height, left : left + width]
        out.append(crop_CHW.flip(-1) if augment.flip and mirrored else crop_CHW)
    return torch.stack(out) if out else image_BCHW


def images(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    pad=st.integers(0, 5),
    flip=st.booleans(),
    key=st.integers(0, 2**63 - 1),
    first=st.integers(0, 2**40),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.bfloat16]),
)
def test_the_batch_equals_slicing_sample_by_sample(shape, pad, flip, key, first, dtype):
    image_BCHW, ids_B = images(*shape, dtype=dtype), first + 3 * torch.arange(shape[0])
    augment = Augment(crop_pad=pad, flip=flip)
    quick = augment(image_BCHW, ids_B, key)
    assert torch.equal(quick, slowly(augment, image_BCHW, ids_B, key))
    assert quick.dtype == dtype


def test_the_order_of_rows_and_their_neighbours_change_nothing():
    image_BCHW, ids_B = images(32, 3, 8, 8), torch.arange(100, 132)
    whole = CROP_FLIP(image_BCHW, ids_B, KEY)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(CROP_FLIP(image_BCHW[order], ids_B[order], KEY), whole[order])
    parts = [CROP_FLIP(image_BCHW[r::3], ids_B[r::3], KEY) for r in range(3)]
    assert all(torch.equal(part, whole[r::3]) for r, part in enumerate(parts))


def test_memory_layout_changes_nothing_and_the_input_stays():
    image_BCHW, ids_B = images(16, 3, 8, 8), torch.arange(16)
    kept = image_BCHW.clone()
    expected = CROP_FLIP(image_BCHW, ids_B, KEY)
    channels_last = image_BCHW.contiguous(memory_format=torch.channels_last)
    assert torch.equal(CROP_FLIP(channels_last, ids_B, KEY), expected)
    assert torch.equal(image_BCHW, kept)
    assert expected.is_contiguous()


def test_no_global_random_state_is_used():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    CROP_FLIP(images(4, 3, 8, 8), torch.arange(4), KEY)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_epoch_and_each_example_draws_anew_and_evenly():
    ids_B = torch.arange(9_000)
    # the bright pixel shows where the window went, its neighbour whether it is mirrored
    image_BCHW = torch.zeros(9_000, 1, 5, 5, dtype=torch.uint8)
    image_BCHW[:, :, 2, 2] = 2
    image_BCHW[:, :, 2, 3] = 1
    augment = Augment(crop_pad=1, flip=True)
    seen = augment(image_BCHW, ids_B, KEY)
    kinds, counts = seen.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 18  # 9 windows, mirrored or not
    assert counts.min() > 400  # 500 expected, standard deviation 22
    assert counts.max() < 600
    other = augment(image_BCHW, ids_B, derive_key(0, "augment", 4))
    same = (seen == other).flatten(1).all(dim=1).float().mean()
    assert 0.04 < same < 0.07  # independent epochs agree once in 18


def test_padding_is_black():
    moved = Augment(crop_pad=3, flip=False)(
        torch.full((64, 1, 3, 3), 255, dtype=torch.uint8), torch.arange(64), KEY
    )
    assert set(moved.unique().tolist()) == {0, 255}


def test_nothing_to_do_gives_the_images_themselves():
    image_BCHW = images(4, 3, 8, 8)
    assert Augment(crop_pad=0, flip=False)(image_BCHW, torch.arange(4), KEY) is image_BCHW


@pytest.mark.parametrize(
    ("name", "kind", "in_shape", "expected"),
    [
        ("auto", "tabular", (20,), None),
        ("none", "tabular", (20,), None),
        ("none", "image", (3, 32, 32), None),
        ("auto", "image", (3, 32, 32), Augment(crop_pad=4, flip=True)),
        ("auto", "image", (1, 28, 28), Augment(crop_pad=3, flip=False)),
        ("auto", "image", (1, 8, 8), Augment(crop_pad=1, flip=False)),
        ("auto", "image", (3, 64, 4), Augment(crop_pad=1, flip=True)),
        ("crop", "image", (3, 32, 32), Augment(crop_pad=4, flip=False)),
        ("crop_flip", "image", (1, 28, 28), Augment(crop_pad=3, flip=True)),
    ],
)
def test_a_name_gives_the_recipe_for_the_shape(name, kind, in_shape, expected):
    assert augment_for(name, kind=kind, in_shape=in_shape) == expected


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_a_table_cannot_be_cropped(name):
    with pytest.raises(ConfigError, match=f"training.augment='{name}' .*tabular; use 'auto'"):
        augment_for(name, kind="tabular", in_shape=(20,))


def test_an_unknown_name_is_answered_with_the_list():
    with pytest.raises(
        ConfigError, match="'mixup' is unknown; choose auto, none, crop or crop_fli"
    ):
        augment_for("mixup", kind="image", in_shape=(3, 32, 32))  # type: ignore[arg-type]


def test_a_negative_padding_is_refused():
    with pytest.raises(ConfigError, match="crop_pad=-1 must be 0 or more"):
        Augment(crop_pad=-1, flip=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_images():
    image_BCHW, ids_B = images(64, 3, 32, 32), torch.arange(64)
    on_gpu = CROP_FLIP(image_BCHW.cuda(), ids_B.cuda(), KEY)
    assert torch.equal(on_gpu.cpu(), CROP_FLIP(image_BCHW, ids_B, KEY))
