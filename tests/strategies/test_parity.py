"""The ids that CORDS picks on real features, in its order."""

import numpy as np
import pytest

import raysubset as rs

# CORDS fills whole blocks of 33 and overshoots to 528: its first 500 are compared.
CASES = [
    ("last_layer_block33", "last_layer", rs.Block(33)),
    ("bias_block33", "bias", rs.Block(33)),
    ("bias_block1", "bias", rs.Block(1)),
    ("bias_block1", "bias", rs.Exact()),
]


@pytest.fixture(scope="module")
def inputs(parity):
    with np.load(parity / "inputs_5000.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def cords(parity):
    with np.load(parity / "picks_5000.npz") as arrays:
        return dict(arrays)


def ground_of(inputs, rows=slice(None)) -> rs.LocalGroundSet:
    head = inputs["head_weight"], inputs["head_bias"]
    embedding, label = inputs["embedding_train"][rows], inputs["label_train"][rows]
    ids = np.arange(5000)[rows]
    return rs.LocalGroundSet(rs.GradientFactors.from_embeddings(embedding, label, *head, ids=ids))


def select(inputs, ground_set, gradient: str, picks) -> rs.Selection:
    head = inputs["head_weight"], inputs["head_bias"]
    look = rs.Lookahead.from_embeddings(inputs["embedding_val"], inputs["label_val"], *head)
    step = float(inputs["step_size"])
    glister = rs.Glister(gradient=gradient, step="sum", step_size=step, picks=picks, balance="none")
    return glister.select(ground_set, look, budget=500, key=0)


@pytest.mark.parametrize(("name", "gradient", "picks"), CASES)
def test_ids_and_their_order_are_those_of_cords(inputs, cords, name, gradient, picks):
    chosen = select(inputs, ground_of(inputs), gradient, picks)
    np.testing.assert_array_equal(chosen.ids, cords[name][:500])
    assert chosen.ids.dtype == np.int64
    assert chosen.gains.dtype == np.float32
    np.testing.assert_array_equal(chosen.weights, np.ones(500, dtype=np.float32))


@pytest.mark.parametrize(("name", "gradient", "picks"), CASES[:3])
def test_seven_shards_choose_what_cords_chooses(inputs, cords, name, gradient, picks):
    shards = [ground_of(inputs, rows) for rows in np.array_split(np.arange(5000), 7)]
    chosen = select(inputs, rs.ShardedGroundSet(shards), gradient, picks)
    np.testing.assert_array_equal(chosen.ids, cords[name][:500])


def test_float64_chooses_what_cords_chooses(inputs, cords):
    # The vectors do not hang on the last bits of float32.
    wide = {k: v.astype("f8") if v.dtype == np.float32 else v for k, v in inputs.items()}
    chosen = select(wide, ground_of(wide), "last_layer", rs.Block(33))
    np.testing.assert_array_equal(chosen.ids, cords["last_layer_block33"][:500])


def test_the_overshoot_of_summed_blocks_is_seen_by_the_certificate(inputs):
    chosen = select(inputs, ground_of(inputs), "last_layer", rs.Block(33))
    assert chosen.facts["modelled_loss_after"] > chosen.facts["modelled_loss_before"]
    assert chosen.facts["share_of_optimum"] < 0
