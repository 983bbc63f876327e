"""What is found about an experiment: data, model, sizes, time."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.doctor.data import bytes_of, check_data
from raysubset.doctor.finding import Finding
from raysubset.doctor.fitting import Plan
from raysubset.doctor.reading import read
from raysubset.doctor.rehearsing import Paces, rehearse_run
from raysubset.doctor.size import size_of
from raysubset.doctor.time_needed import check_time, hands_of, time_needed
from raysubset.experiment import Experiment, nest
from raysubset.learn.parts import Parts
from tests.learn.sources_on_disk import png, write_images
from tests.small_runs import experiment, prepared

PATIENT_S = 600.0  # a busy machine is no reason to fail
PACES = Paces(
    device="cpu",
    train_s=3e-3,
    score_s=1e-3,
    greedy_fixed_s=0.0,
    greedy_step_s=0.0,
    greedy_steps=3,
)


def by_name(findings: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def parts() -> Parts:
    return prepared().problem.parts


def test_clean_data_is_well_in_every_respect():
    found = read(experiment(), PATIENT_S).findings
    assert [finding.name for finding in found] == ["data", "classes", "duplicates", "model"]
    assert {finding.status for finding in found} == {"ok"}


def test_a_rare_class_one_that_a_part_lacks_and_rows_in_test_are_warned_about():
    whole = parts()
    of_class = np.flatnonzero(whole.pool.label_N == 3)
    rare = whole.pool.at(np.setdiff1d(np.arange(whole.pool.num_examples), of_class[1:]))
    found = by_name(check_data(replace(whole, pool=rare), None))
    assert found["classes"].status == "warning"
    assert "times the smallest" in found["classes"].found
    lacking = whole.validation.at(np.flatnonzero(whole.validation.label_N != 3))
    found = by_name(check_data(replace(whole, validation=lacking), None))
    assert "validation has no row of 3" in found["classes"].found
    leaked = by_name(check_data(replace(whole, test=whole.pool), None))["duplicates"]
    assert leaked.status == "warning"
    assert "pool rows also stand in test" in leaked.found


def test_f16_bad_rows_are_counted_listed_and_stop_the_run_unless_they_are_skipped(tmp_path: Path):
    images = [png(i) for i in range(60)]
    images[7], images[30] = b"no image", images[30][:40]
    path = write_images(tmp_path / "train.parquet", images, [i % 3 for i in range(60)])
    options = {"data.path": str(path), "model.name": "convnet", "training.batch_size": 8}
    for on_bad, status in (("refuse", "failed"), ("skip", "warning")):
        asked = Experiment.of(nest(options | {"data.on_bad_row": on_bad}))
        result = read(asked, PATIENT_S)
        found = by_name(result.findings)["data"]
        assert found.status == status
        assert "row 7" in found.found and "row 30" in found.found
        assert result.prepared is not None  # the estimates go on with the good rows


@pytest.mark.parametrize(
    "options",
    [
        {"data.path": "/nowhere/at/all"},
        {"data.format": "digits", "data.limit": 3},
        {"data.format": "digits", "data.limit": 100, "selection.fraction": 0.001},
    ],
)
def test_what_no_run_could_begin_with_is_a_finding_and_no_error(options: dict[str, Any]):
    result = read(Experiment.of(nest(options)), PATIENT_S)
    assert result.prepared is None
    found = by_name(result.findings)
    assert found["data"].status == "failed" and found["data"].found
    assert set(found) == {"data", "classes", "duplicates", "model"}


def test_a_model_that_does_not_fit_is_a_finding_beside_those_about_the_data():
    found = by_name(read(experiment(model__name="resnet19"), PATIENT_S).findings)
    assert found["model"].status == "failed" and "resnet18" in found["model"].found
    assert found["data"].status == "ok"


def test_data_that_cannot_be_read_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    read_at_last = threading.Event()  # a disk that answers after we stopped waiting
    monkeypatch.setattr("raysubset.doctor.reading.prepare", lambda _: read_at_last.wait())
    try:
        found = by_name(read(experiment(), 0.01).findings)
    finally:
        read_at_last.set()
    assert found["data"].status == "warning"
    assert found["model"].status == "skipped"


def test_factors_take_a_float_for_each_class_and_width_of_each_scored_row():
    ready = prepared()
    size = size_of(ready, 2)
    problem = ready.problem
    _, head = problem.build()
    rows = len(ready.chooser.id_N) + problem.parts.validation.num_examples
    assert size.factors == 4 * rows * (problem.num_classes + head.in_features)
    assert size.data == bytes_of(problem.parts)
    assert size_of(prepared(selection__strategy="random"), 2).factors == 0
    bias = size_of(prepared(selection__glister__gradient="bias"), 2)
    assert bias.factors == 4 * rows * problem.num_classes
    assert size_of(ready, 1).rank > size.rank  # fewer ranks, larger batches of each


def test_a_rehearsal_measures_every_stage_and_changes_nothing():
    ready = prepared()
    paces = rehearse_run(ready, 2, "cpu")
    assert paces.train_s > 0 and paces.score_s > 0
    assert paces.greedy_fixed_s + paces.greedy_step_s > 0
    assert paces.greedy_steps == ready.phases[-1].budget  # exact picks: a step each
    assert rehearse_run(prepared(selection__strategy="random"), 2, "cpu").greedy_steps == 0


def test_the_time_of_full_training_is_its_visits_and_its_speed_up_is_one():
    full = time_needed(
        prepared(selection__strategy="full"),
        PACES,
        hands_of(Plan(workers=1, scorers=1, device="cpu"), 8, 1),
    )
    assert full.speed_up == pytest.approx(1)
    assert full.ceiling == pytest.approx(1)
    assert full.total["scoring"] == full.total["greedy"] == 0


def test_a_selection_at_a_third_of_a_step_that_costs_no_more_comes_close_to_the_ceiling():
    hands = hands_of(Plan(workers=1, scorers=1, device="cpu"), 8, 1)
    needed = time_needed(prepared(), PACES, hands)
    # The first phase selects at random, and scoring reads the validation rows too.
    assert needed.speed_up == pytest.approx(needed.ceiling, rel=0.2)
    slow = replace(PACES, greedy_step_s=1e3)
    found = check_time(time_needed(prepared(), slow, hands), slow, "told", 36.0)
    assert found.status == "warning" and "blocks(50)" in found.remedy
    assert found.facts["cost"] == pytest.approx(0.01 * found.facts["total_s"])


def test_ranks_without_a_core_of_their_own_do_not_work_side_by_side():
    assert hands_of(Plan(workers=4, scorers=0, device="cpu"), 2, 1).trainers == 2
    assert hands_of(Plan(workers=4, scorers=2, device="cuda"), 2, 1).trainers == 4
