"""Top-k under class rooms is a monoid, so shards answer as the whole would."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import (
    BiasGroundSet,
    Candidates,
    LocalGroundSet,
    ShardedGroundSet,
    Taken,
)
from raysubset.core.scores import Alignment
from raysubset.core.tops import Top, merge
from tests.core.problems import factors_of, lookahead_of, problem, problems, sharded, whole

CLASSES = 3


@dataclass(frozen=True, eq=False)
class Table:
    """A score by heart: a gain per id. Whole numbers, so that ties are many and exact."""

    gain_of: dict[int, float]

    def __call__(self, factors: GradientFactors) -> torch.Tensor:
        gains = [self.gain_of[i] for i in factors.ids_N.tolist()]
        return torch.tensor(gains, dtype=torch.float64)


@dataclass(frozen=True)
class Question:
    """Rows (id, label, gain), cut into shards, with what is taken and how many are asked for."""

    shards: list[list[tuple[int, int, float]]]
    taken: Taken
    k: int

    @property
    def rows(self) -> list[tuple[int, int, float]]:
        return [row for shard in self.shards for row in shard]

    @property
    def score(self) -> Table:
        return Table({i: gain for i, _, gain in self.rows})

    def answer(self) -> list[int]:
        """Take the best open row while there is one and k allows: the definition."""
        room = None if self.taken.room_C is None else self.taken.room_C.tolist()
        closed = set(self.taken.ids_K.tolist())
        best: list[int] = []
        for i, label, _ in sorted(self.rows, key=lambda row: (-row[2], row[0])):
            if i not in closed and len(best) < self.k and (room is None or room[label] > 0):
                best.append(i)
                if room is not None:
                    room[label] -= 1
        return best


def ground_set(rows: list[tuple[int, int, float]]) -> LocalGroundSet:
    labels = torch.tensor([label for _, label, _ in rows], dtype=torch.int64)
    ids = torch.tensor([i for i, _, _ in rows], dtype=torch.int64)
    return LocalGroundSet(GradientFactors.from_labels(labels, CLASSES, ids))


def ids_of(best: Candidates) -> list[int]:
    return best.factors.ids_N.tolist()


@st.composite
def questions(draw: st.DrawFn) -> Question:
    ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=25, unique=True))
    row = st.tuples(st.integers(0, CLASSES - 1), st.integers(-2, 2).map(float))
    rows = [(i, *draw(row)) for i in ids]
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    edges = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    taken_ids = draw(st.lists(st.sampled_from([*ids, 100, 101]), unique=True))
    room = draw(st.none() | st.lists(st.integers(0, 9), min_size=CLASSES, max_size=CLASSES))
    taken = Taken(
        ids_K=torch.tensor(taken_ids, dtype=torch.int64),
        room_C=None if room is None else torch.tensor(room),
    )
    return Question([rows[a:b] for a, b in edges], taken, draw(st.integers(1, 30)))


@given(q=questions())
def test_the_best_under_class_rooms_are_those_of_brute_force(q):
    best = ground_set(q.rows).best(q.score, q.k, q.taken)
    assert ids_of(best) == q.answer()
    assert best.gain_K.tolist() == [q.score.gain_of[i] for i in ids_of(best)]


@given(q=questions())
def test_any_number_of_shards_gives_the_best_of_the_whole(q):
    shards = ShardedGroundSet([ground_set(rows) for rows in q.shards])
    assert ids_of(shards.best(q.score, q.k, q.taken)) == q.answer()


@given(q=questions(), data=st.data())
def test_merge_is_commutative_and_associative(q, data):
    def merged(tops: list[Top]) -> Top:
        return merge(tops, q.k, q.taken.room_C)

    parts = [ground_set(rows).top(q.score, q.k, q.taken) for rows in q.shards]
    expected = merged(parts).ids_K.tolist()
    assert expected == q.answer()
    shuffled = data.draw(st.permutations(parts))
    assert merged(shuffled).ids_K.tolist() == expected
    cut = data.draw(st.integers(1, len(parts)))
    halves = [half for half in (parts[:cut], parts[cut:]) if half]
    assert merged([merged(half) for half in halves]).ids_K.tolist() == expected


@given(q=questions())
def test_shards_of_shards_are_shards(q):
    shards = [ground_set(rows) for rows in q.shards]
    nested = ShardedGroundSet([ShardedGroundSet(shards[:1]), ShardedGroundSet(shards)])
    if len(shards) > 1:
        nested = ShardedGroundSet([ShardedGroundSet(shards[:1]), ShardedGroundSet(shards[1:])])
        assert ids_of(nested.best(q.score, q.k, q.taken)) == q.answer()


@given(q=questions())
def test_asking_for_one_at_a_time_gives_the_same_as_asking_for_all(q):
    pool, taken, found = ground_set(q.rows), q.taken, []
    for _ in range(q.k):
        best = pool.best(q.score, 1, taken)
        taken = taken.plus(best.factors)
        found += ids_of(best)
    assert found == q.answer()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_ties_go_to_the_lower_id_wherever_the_rows_lie(k):
    rows = [(40, 0, 1.0), (10, 0, 1.0), (30, 0, 1.0), (20, 0, 1.0)]
    expected = [10, 20, 30, 40][:k]
    score = Table({i: gain for i, _, gain in rows})
    assert ids_of(ground_set(rows).best(score, k, Taken.nothing())) == expected
    split = ShardedGroundSet([ground_set(rows[:2]), ground_set(rows[2:])])
    assert ids_of(split.best(score, k, Taken.nothing())) == expected


def test_negative_zero_ties_with_zero():
    rows = [(1, 0, -0.0), (2, 0, 0.0)]
    score = Table({1: -0.0, 2: 0.0})
    for k in (1, 2):
        assert ids_of(ground_set(rows).best(score, k, Taken.nothing())) == [1, 2][:k]


def test_taken_counts_rooms_down_and_never_reopens():
    p = problem(0, c=CLASSES)
    pool, room = whole(p), [3, 2, 1]
    taken = Taken.nothing(room)
    for _ in range(sum(room)):
        best = pool.best(Table(dict.fromkeys(p.ids_N.tolist(), 0.0)), 1, taken)
        taken = taken.plus(best.factors)
    assert taken.room_C.tolist() == [0, 0, 0]
    assert len(set(taken.ids_K.tolist())) == 6
    assert not bool(pool.open_N(taken).any())


def test_unlimited_opens_the_same_rows_without_a_limit_per_class():
    p = problem(1, c=CLASSES)
    taken = Taken.nothing([1, 0, 2])
    pool = whole(p)
    assert torch.equal(pool.open_N(taken), pool.open_N(taken.unlimited()))
    score = Table({int(i): float(i) for i in p.ids_N})
    found = pool.best(score, 100, taken.unlimited())
    assert len(ids_of(found)) == int((p.label_N != 1).sum())


@given(p=problems(), shards=st.integers(1, 7))
def test_sums_and_counts_of_shards_are_those_of_the_whole(p, shards):
    one, many = whole(p), sharded(p, shards)
    assert many.num_examples == one.num_examples
    assert many.class_count_C == one.class_count_C
    # Another order of a float64 sum: equal to rounding.
    torch.testing.assert_close(many.gradient_sum(), one.gradient_sum(), rtol=1e-10, atol=1e-12)
    assert many.whole().factors.ids_N.tolist() == sorted(p.ids_N.tolist())


@given(p=problems())
def test_the_bias_view_scores_without_embeddings(p):
    lookahead = lookahead_of(p).bias_only()
    score = Alignment(lookahead.direction(lookahead.logits_VC))
    view, narrow = BiasGroundSet(whole(p)), LocalGroundSet(factors_of(p).bias_only())
    found = view.best(score, 3, Taken.nothing())
    expected = narrow.best(score, 3, Taken.nothing())
    assert ids_of(found) == ids_of(expected)
    assert found.factors.embedding_NH.shape[1] == 0
    assert torch.equal(view.gradient_sum(), narrow.gradient_sum())
    assert view.class_count_C == narrow.class_count_C
    assert view.num_examples == narrow.num_examples


def test_an_empty_ground_set_answers_with_nothing():
    p = problem(2)
    empty = LocalGroundSet(factors_of(p).take(slice(0, 0)))
    lookahead = lookahead_of(p)
    score = Alignment(lookahead.direction(lookahead.logits_VC))
    for k in (1, 3):
        assert ids_of(empty.best(score, k, Taken.nothing([1, 1, 1]))) == []
    assert empty.gradient_sum().abs().sum() == 0
    assert empty.class_count_C == [0, 0, 0]
