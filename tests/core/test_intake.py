"""What a person hands in is checked, and refused with the rows that are wrong."""

import numpy as np
import pytest
import torch

from raysubset.core.factors import GradientFactors
from raysubset.core.lookahead import Lookahead
from raysubset.errors import DataError, ModelError

N, C, H = 30, 3, 4


def given_arrays(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "embedding_NH": rng.normal(size=(N, H)),
        "label_N": rng.integers(0, C, N),
        "weight_CH": rng.normal(size=(C, H)),
        "bias_C": rng.normal(size=C),
    }
    return arrays | changes


def factors_from(**changes) -> GradientFactors:
    return GradientFactors.from_embeddings(**given_arrays(**changes))


def with_value(value: float, rows: list[int]) -> np.ndarray:
    embedding_NH = given_arrays()["embedding_NH"]
    embedding_NH[rows, 1] = value
    return embedding_NH


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_f11_the_first_ten_rows_that_are_not_finite_are_named(value):
    rows = list(range(3, 27, 2))
    with pytest.raises(DataError, match=r"in 12 rows, first rows \[3, 5, 7, 9, .*, 21\]"):
        factors_from(embedding_NH=with_value(value, rows))


def test_opposite_infinities_do_not_hide_each_other():
    embedding_NH = with_value(np.inf, [4])
    embedding_NH[9, 1] = -np.inf
    with pytest.raises(DataError, match=r"\[4, 9\]"):
        factors_from(embedding_NH=embedding_NH)


def test_values_whose_sum_overflows_are_no_infinity():
    weight_CH = np.full((C, H), 1e-300)
    factors = factors_from(embedding_NH=np.full((N, H), 1e308), weight_CH=weight_CH)
    assert bool(torch.isfinite(factors.residual_NC).all())


def test_f11_logits_that_overflow_are_refused_with_their_rows():
    embedding_NH = given_arrays()["embedding_NH"].astype(np.float32)
    embedding_NH[7] = 3e38
    weight_CH = np.full((C, H), 2.0, dtype=np.float32)
    with pytest.raises(DataError, match=r"logits of embedding_NH .* \[7\]"):
        factors_from(embedding_NH=embedding_NH, weight_CH=weight_CH, bias_C=np.zeros(C, "f4"))


@pytest.mark.parametrize(("label", "shown"), [(-1, "-1"), (3, "3"), (255, "255")])
def test_f12_labels_out_of_range_are_named_with_value_row_and_range(label, shown):
    label_N = np.zeros(N, dtype=np.int64)
    label_N[[5, 8]] = label
    with pytest.raises(DataError, match=rf"holds {shown} at row 5.* 0\.\.2 \(rows: \[5, 8\]\)"):
        factors_from(label_N=label_N)


@pytest.mark.parametrize("dtype", [np.float64, np.bool_, object, "U1"])
def test_f12_labels_that_are_no_whole_numbers_are_refused_with_their_type(dtype):
    with pytest.raises(DataError, match="label_N has type"):
        factors_from(label_N=np.zeros(N, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.uint16, np.uint32])
def test_labels_of_any_integer_type_become_int64(dtype):
    label_N = given_arrays()["label_N"]
    factors = factors_from(label_N=label_N.astype(dtype))
    assert factors.label_N.dtype == torch.int64
    assert factors.label_N.tolist() == label_N.tolist()


def test_one_label_per_row_is_asked_for():
    with pytest.raises(DataError, match=r"for 30 rows"):
        factors_from(label_N=np.zeros(N - 1, dtype=np.int64))


def test_ids_that_repeat_are_refused_with_the_id():
    with pytest.raises(DataError, match="holds 7 more than once"):
        factors_from(ids=[*range(N - 1), 7])


def test_negative_ids_are_refused():
    with pytest.raises(DataError, match="ids holds -1"):
        factors_from(ids=range(-1, N - 1))


@pytest.mark.parametrize("ids", [np.arange(N) + 0.5, np.arange(N - 1)])
def test_ids_are_whole_numbers_one_per_row(ids):
    with pytest.raises(DataError, match="ids has"):
        factors_from(ids=ids)


def test_a_head_of_another_width_is_refused_with_both_widths():
    with pytest.raises(ModelError, match="5 wide and the embeddings are 4 wide"):
        factors_from(weight_CH=np.zeros((C, H + 1)))


def test_a_bias_of_another_length_is_refused_with_the_remedy():
    with pytest.raises(ModelError, match="zeros for a head without bias"):
        factors_from(bias_C=np.zeros(C + 1))


@pytest.mark.parametrize("name", ["weight_CH", "bias_C"])
def test_a_head_that_is_not_finite_is_refused_by_name(name):
    value = np.full_like(given_arrays()[name], np.nan)
    with pytest.raises(DataError, match=name):
        factors_from(**{name: value})


def test_embeddings_have_two_dimensions():
    with pytest.raises(DataError, match=r"shape \(30,\)"):
        factors_from(embedding_NH=np.zeros(N))


def test_an_empty_validation_set_is_refused():
    arrays = given_arrays()
    with pytest.raises(DataError, match="embedding_VH has no rows"):
        Lookahead.from_embeddings(
            np.zeros((0, H)), np.zeros(0, dtype=int), arrays["weight_CH"], arrays["bias_C"]
        )


def as_torch(a: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(a)


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def reversed_view(a: np.ndarray) -> np.ndarray:
    return a[::-1].copy()[::-1]


def strided_view(a: np.ndarray) -> np.ndarray:
    return np.repeat(a, 2, axis=0)[::2]


def big_endian(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder(">"))


@pytest.mark.parametrize(
    "form", [as_torch, read_only, reversed_view, strided_view, big_endian, np.ndarray.tolist]
)
def test_the_form_of_the_arrays_changes_nothing_and_warns_of_nothing(form):
    # filterwarnings=error: torch's warning about read-only memory would fail here.
    expected = factors_from()
    factors = factors_from(**{name: form(array) for name, array in given_arrays().items()})
    # Lists arrive as float64 too, so all bits are equal.
    assert torch.equal(factors.residual_NC, expected.residual_NC)
    assert torch.equal(factors.embedding_NH, expected.embedding_NH)
    assert torch.equal(factors.label_N, expected.label_N)


def test_nothing_of_the_callers_is_written_to():
    arrays = {name: read_only(array) for name, array in given_arrays().items()}
    before = {name: array.copy() for name, array in arrays.items()}
    GradientFactors.from_embeddings(**arrays).gradient_sum()
    assert all(np.array_equal(arrays[name], before[name]) for name in arrays)


def test_whole_number_embeddings_become_floating():
    factors = factors_from(embedding_NH=np.arange(N * H).reshape(N, H) % 5)
    assert factors.embedding_NH.dtype == torch.float32
