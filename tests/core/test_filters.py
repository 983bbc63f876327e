"""The broom: what is dropped, and the reason given."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysubset.core.filters import Evidence, ExactDuplicates, Verdict, keep_all
from tests import oracles

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), max_size=30)


def evidence_of(rows: list[tuple[int, int]], first_id: int = 10) -> Evidence:
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)
    ids_N = torch.arange(len(rows)) * 3 + first_id
    return Evidence(ids_N=ids_N, label_N=table[:, 0], digest_N=table[:, 1])


@given(rows=ROWS)
def test_duplicates_are_those_of_a_naive_search(rows):
    evidence = evidence_of(rows)
    ids = evidence.ids_N.tolist()
    expected = oracles.duplicates(ids, [label for label, _ in rows], [d for _, d in rows])
    verdict = ExactDuplicates().keep(evidence)
    assert verdict.keep_N.tolist() == [i not in expected for i in ids]
    assert verdict.reasons == {
        dropped: f"same content and label as id {kept}" for dropped, kept in expected.items()
    }


def test_equal_content_under_different_labels_stays():
    verdict = ExactDuplicates().keep(evidence_of([(0, 7), (1, 7), (0, 8)]))
    assert verdict.keep_N.tolist() == [True, True, True]
    assert verdict.reasons == {}


def test_the_first_copy_stays_and_the_others_name_it():
    verdict = ExactDuplicates().keep(evidence_of([(0, 5), (0, 6), (0, 5), (0, 5)]))
    assert verdict.keep_N.tolist() == [True, True, False, False]
    assert set(verdict.reasons) == {16, 19}
    assert all(why.endswith("id 10") for why in verdict.reasons.values())


@given(rows=ROWS)
def test_what_was_kept_holds_no_duplicates(rows):
    evidence = evidence_of(rows)
    keep_N = ExactDuplicates().keep(evidence).keep_N
    rest = Evidence(
        ids_N=evidence.ids_N[keep_N],
        label_N=evidence.label_N[keep_N],
        digest_N=evidence.digest_N[keep_N],
    )
    assert bool(ExactDuplicates().keep(rest).keep_N.all())


@pytest.mark.parametrize("digest", [-(2**63), 2**63 - 1])
def test_digests_use_all_64_bits(digest):
    verdict = ExactDuplicates().keep(evidence_of([(0, digest), (0, digest), (0, 0)]))
    assert verdict.keep_N.tolist() == [True, False, True]


@dataclass(frozen=True)
class Drops:
    """A filter that drops given ids."""

    ids: tuple[int, ...]
    name: str

    def keep(self, evidence: Evidence) -> Verdict:
        dropped = torch.isin(evidence.ids_N, torch.tensor(self.ids))
        return Verdict(keep_N=~dropped, reasons=dict.fromkeys(self.ids, f"by {self.name}"))


def test_the_first_filter_that_drops_an_id_gives_its_reason():
    evidence = evidence_of([(0, 1), (0, 2), (0, 3)], first_id=0)
    verdict = keep_all([Drops((0, 3), "a"), Drops((3, 6), "b")], evidence)
    assert verdict.keep_N.tolist() == [False, False, False]
    assert verdict.reasons == {0: "a: by a", 3: "a: by a", 6: "b: by b"}


def test_no_filter_keeps_everything():
    verdict = keep_all([], evidence_of([(0, 1), (0, 1)]))
    assert verdict.keep_N.tolist() == [True, True]
    assert verdict.reasons == {}


def test_a_copy_stays_when_another_filter_dropped_the_first_one():
    evidence = evidence_of([(0, 7), (0, 7), (0, 8)], first_id=0)
    first = int(evidence.ids_N[0])
    verdict = keep_all([Drops((first,), "a"), ExactDuplicates()], evidence)
    assert verdict.keep_N.tolist() == [False, True, True]
