"""Laws of normalisation: the pool's moments, whatever its size, offset or constancy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysubset.errors import DataError
from raysubset.learn import normalize
from raysubset.learn.normalize import fit_normalize

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (300, 3, 7, 5), dtype=np.uint8)
TABLE = (RNG.normal(size=(400, 6)) * np.logspace(-3, 3, 6) + 10).astype(np.float32)


@pytest.mark.parametrize("chunk_values", [1, 1000, 1 << 20])
@pytest.mark.parametrize("content", [IMAGES, TABLE])
def test_the_moments_are_numpys_whatever_the_chunk(content, chunk_values, monkeypatch):
    monkeypatch.setattr(normalize, "_CHUNK_VALUES", chunk_values)
    fitted = fit_normalize(content)
    axes = (0, 2, 3) if content.ndim == 4 else 0
    wide = content.astype(np.float64)
    # float32 holds 7 digits of what was summed in float64
    np.testing.assert_allclose(fitted.mean.flatten(), wide.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(fitted.std.flatten(), wide.std(axes), rtol=1e-6)


def test_the_pool_comes_out_with_mean_zero_and_spread_one():
    for content, dims in ((IMAGES, (0, 2, 3)), (TABLE, (0,))):
        out = fit_normalize(content)(torch.from_numpy(content))
        assert out.dtype == torch.float32
        assert out.shape == content.shape
        assert out.mean(dims).abs().max() < 1e-2  # 1e-3 of spread on a mean of 10, in float32
        torch.testing.assert_close(out.std(dims, correction=0), torch.ones(content.shape[1]))


def test_shapes_are_one_value_per_channel_or_feature():
    assert fit_normalize(IMAGES).mean.shape == (3, 1, 1)
    assert fit_normalize(TABLE).std.shape == (6,)
    assert fit_normalize(TABLE).std.dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -1e-30])
def test_a_constant_feature_comes_out_as_zero_and_a_new_value_stays_finite(value: float):
    table = np.full((1001, 2), value, dtype=np.float32)
    table[:, 1] = np.arange(1001)
    fitted = fit_normalize(table)
    assert fitted.std[0] == 1
    assert not fitted(torch.from_numpy(table))[:, 0].any()
    assert fitted(torch.tensor([[value + 5, 0.0]])).isfinite().all()


def test_one_row_is_a_constant():
    assert torch.equal(fit_normalize(TABLE[:1]).std, torch.ones(6))


def test_a_feature_far_from_zero_keeps_its_spread():
    # float32 steps are 1/16 at 1e6; sums of squares in float32 would lose the spread altogether
    table = np.sort(RNG.normal(1e6, 3.0, size=(5000, 1)).astype(np.float32), axis=0)
    assert float(fit_normalize(table).std) == pytest.approx(table.astype(np.float64).std())


def test_the_batch_stays_as_it_was():
    batch = torch.ones(4, 6)
    fit_normalize(TABLE)(batch)
    assert torch.equal(batch, torch.ones(4, 6))


def test_read_only_content_is_welcome():
    table = TABLE.copy()
    table.flags.writeable = False
    fit_normalize(table)


def test_a_copy_on_a_device_is_the_same():
    fitted = fit_normalize(TABLE)
    assert torch.equal(fitted.to("cpu").mean, fitted.mean)
    assert torch.equal(fitted.to(torch.device("cpu")).std, fitted.std)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_values_that_are_not_finite_are_named_by_feature(bad: float):
    table = TABLE.astype(np.float64)
    table[7, 4] = bad
    with pytest.raises(DataError, match=r"features \[4\] hold NaN, infinite or too large"):
        fit_normalize(table)


@pytest.mark.parametrize("shape", [(0, 3), (5,), (5, 3, 4), (0, 3, 8, 8)])
def test_content_without_rows_or_of_another_shape_is_refused(shape: tuple[int, ...]):
    with pytest.raises(DataError) as error:
        fit_normalize(np.zeros(shape))
    assert str(shape) in str(error.value)
    assert "must have rows" in str(error.value)
