from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysubset.evidence.overlap import jaccard
from raysubset.frontier.plan import trials_of
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.stability import class_changes, stability_of
from raysubset.frontier.suspects import MOST_SUSPECT, suspects_of
from raysubset.frontier.table import chosen_ids, rows_in
from raysubset.frontier.trial import Data, run_trial
from tests.frontier.rows import NUM_CLASSES, label_of, pool_of, trial_row, write_trial
from tests.small_runs import experiment

SEEDS = (0, 1, 2)


def shared_pool() -> np.ndarray:
    return np.intersect1d(np.intersect1d(pool_of(0), pool_of(1)), pool_of(2))


def test_only_ids_that_every_seed_could_choose_are_always_or_never(tmp_path: Path):
    shared = shared_pool()
    rows = [trial_row("glister", 0.1, seed) for seed in SEEDS]
    for row in rows:
        own = np.setdiff1d(pool_of(row.seed), shared)[:5]
        write_trial(tmp_path, row, chosen=np.sort([*shared[:9], *own]).tolist())
    (found,) = stability_of(tmp_path, rows, NUM_CLASSES)
    assert found.shared == len(shared)
    assert found.always.tolist() == shared[:9].tolist()
    assert found.never.tolist() == shared[9:].tolist()
    assert (found.seeds, found.chosen) == (3, 14.0)


def test_seeds_are_compared_on_what_both_could_choose(tmp_path: Path):
    """Choosing everything is full agreement, though the pools differ."""
    rows = [trial_row("glister", 1.0, seed) for seed in SEEDS]
    for row in rows:
        write_trial(tmp_path, row, chosen=pool_of(row.seed).tolist())
    (found,) = stability_of(tmp_path, rows, NUM_CLASSES)
    assert jaccard(pool_of(0), pool_of(1)) < 0.9
    assert found.overlap == pytest.approx(1.0)
    assert found.expected == pytest.approx(1.0)
    np.testing.assert_allclose(found.coverage_C, 1.0)


def test_random_choices_overlap_as_chance_has_it(tmp_path: Path):
    rows = [trial_row("glister", 0.3, seed) for seed in range(8)]
    for row in rows:
        ids = np.random.default_rng(100 + row.seed).permutation(pool_of(row.seed))[:54]
        write_trial(tmp_path, row, chosen=np.sort(ids).tolist())
    (found,) = stability_of(tmp_path, rows, NUM_CLASSES)
    assert found.overlap is not None and found.expected is not None
    # 28 pairs of about 37 ids in a shared pool of about 125: a pair's deviation is 0.04
    assert found.overlap == pytest.approx(found.expected, abs=0.03)


def test_one_seed_has_no_overlap_and_controls_are_not_asked(tmp_path: Path):
    rows = [trial_row("glister", 0.1, 0), trial_row("full-compressed", 0.1, 0)]
    for row in rows:
        write_trial(tmp_path, row)
    (found,) = stability_of(tmp_path, rows, NUM_CLASSES)
    assert found.overlap is None and found.expected is None


def test_coverage_is_the_share_of_the_choice_over_the_share_of_the_pool(tmp_path: Path):
    row, pool = trial_row("glister", 0.1, 0), pool_of(0)
    chosen = pool[label_of(pool) < 2]
    write_trial(tmp_path, row, chosen=chosen.tolist())
    (found,) = stability_of(tmp_path, [row], NUM_CLASSES)
    assert found.chosen_C[:2].sum() == pytest.approx(1.0)
    assert np.all(found.coverage_C[2:] == 0)
    np.testing.assert_allclose(found.coverage_C[:2], len(pool) / len(chosen))


def test_a_class_s_change_is_the_mean_over_pairs_that_know_it():
    unknown = (np.nan, *[0.5] * (NUM_CLASSES - 1))
    rows = [trial_row("full", 1.0, seed, class_accuracy=(0.9,) * NUM_CLASSES) for seed in (0, 1)]
    rows += [
        trial_row("glister", 0.1, 0, class_accuracy=unknown),
        trial_row("glister", 0.1, 1, class_accuracy=(0.7,) * NUM_CLASSES),
        trial_row("glister", 0.1, 2),  # full has no such seed
        trial_row("glister", 0.3, 0, class_accuracy=unknown),
    ]
    small, large = class_changes(rows)
    assert small.seeds == 2
    assert small.change_C[0] == pytest.approx(-0.2)
    np.testing.assert_allclose(small.change_C[1:], -0.3)
    assert np.isnan(large.change_C[0])
    assert class_changes([row for row in rows if row.row != "full"]) == []


def test_the_wrongest_ids_of_full_are_suspected_most(tmp_path: Path):
    shared = shared_pool()
    wrong = {int(id_): -9.0 + 0.1 * place for place, id_ in enumerate(shared[:30])}
    rows = [trial_row("full", 1.0, seed) for seed in SEEDS]
    rows += [trial_row("full-compressed", 0.1, 0)]
    for row in rows:
        bad = wrong if row.row == "full" else {int(shared[-1]): -99.0}
        write_trial(tmp_path, row, chosen=pool_of(row.seed).tolist(), margin=bad, keys=True)
    found = suspects_of(tmp_path, rows)
    assert found is not None
    assert (found.row, found.seeds, found.unanimous) == ("full", 3, 30)
    assert found.judged == len(np.unique(np.concatenate([pool_of(seed) for seed in SEEDS])))
    assert [s.id for s in found.worst] == shared[:MOST_SUSPECT].tolist()
    for suspect in found.worst:
        assert suspect.margin == pytest.approx(wrong[suspect.id], rel=1e-5)  # float32
        assert suspect.label == suspect.id % NUM_CLASSES
        assert suspect.key == f"row {suspect.id}"
        assert (suspect.agree, suspect.seen) == (3, 3)


def test_a_clean_pool_has_no_suspects_and_without_full_nobody_judges(tmp_path: Path):
    row = trial_row("full-compressed", 0.3, 0)
    write_trial(tmp_path, row)
    found = suspects_of(tmp_path, [row])
    assert found is not None and found.worst == () and found.row == "full-compressed"
    assert suspects_of(tmp_path, [trial_row("glister", 0.1, 0)]) is None


def test_real_trials_are_read_as_they_were_written(tmp_path: Path):
    base, settings = experiment(), FrontierSettings(fractions=(0.25,), seeds=1, max_drop=None)
    trials = [t for t in trials_of(base, settings) if t.row in ("glister", "full")]
    for trial in trials:
        run_trial(trial, tmp_path, Data(base).of(trial.seed))
    rows = rows_in(tmp_path, trials)
    (found,) = stability_of(tmp_path, rows, NUM_CLASSES)
    asked = next(row for row in rows if row.row == "glister")
    assert found.chosen == asked.distinct == len(found.always)
    assert found.always.tolist() == chosen_ids(tmp_path, asked.trial).tolist()
    assert len(found.always) + len(found.never) == found.shared == asked.num_pool
    suspects = suspects_of(tmp_path, rows)
    assert suspects is not None and suspects.judged == asked.num_pool
    assert all(s.margin < 0 and s.loss >= 0 for s in suspects.worst)
