"""The bench: what it refuses, what it tells of each case, and what its peers maximise."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import jobs.benches
import raysubset as rs
from jobs import bench
from jobs.bench_table import rows_of, summary, verdict
from jobs.benches import cords
from jobs.benches.exact import rescored, screened
from jobs.benches.measuring import Asked, Measured, peak_bytes
from jobs.benches.peers import cover, expanded, lazy_greedy, plain_greedy, similarity_of, value_of
from raysubset.core.factors import GradientFactors
from tests import oracles
from tests.core.problems import factors_of, lookahead_of, problem


def result(shown: str) -> dict[str, Any]:
    """Return the RESULT of a log, which must be its last line."""
    return json.loads(shown.splitlines()[-1].removeprefix("RESULT "))


def found(asked: Asked) -> Measured:
    return Measured(seconds={"it": 1.5}, ratios={"it / that": 0.5}, of="nothing")


def broken(asked: Asked) -> Measured:
    raise ZeroDivisionError("nothing to divide")


def lacking(asked: Asked) -> Measured:
    raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.metrics")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--cases scorign", "scorign"),
        ("--repeats 1", "--repeats"),
        ("--output no/such/x.json", "no/such"),
        ("--features no/such/x.npz", "no/such"),
        ("--model x", "x"),
        ("--data /no/such/data", "/no/such/data"),
    ],
)
def test_a_bench_refuses_what_it_does_not_know_before_it_measures(
    words: str,
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name in jobs.benches.CASES:
        monkeypatch.setitem(jobs.benches.CASES, name, broken)
    assert bench.main([*shlex.split(words), "--local"]) == 2
    told = result(capsys.readouterr().out)
    assert told["outcome"] == "bad input" and named in told["error"] and "cases" not in told


def test_a_bench_tells_medians_and_their_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "bench.json"
    words = f"--local --cases scoring,handover --model mlp --output {output}"
    assert bench.main(shlex.split(words)) == 0
    told = result(capsys.readouterr().out)
    written = json.loads(output.read_text())
    assert told["cases"] == written["cases"] and told["machine"] == written["machine"]
    assert words in written["command"] and written["options"]["model.name"] == "mlp"
    scoring = written["cases"]["scoring"]
    assert scoring["ratios"].keys() == scoring["limits"].keys()
    assert "mlp fp32: factors / forward" in scoring["ratios"]
    for name, ratio in scoring["ratios"].items():
        what = name.removesuffix(": factors / forward")
        seconds = [scoring["seconds"][f"{what} {each}"] for each in ("factors", "forward")]
        assert ratio == pytest.approx(seconds[0] / seconds[1])
    assert "Ray" in written["cases"]["handover"]["skipped"]


@pytest.mark.parametrize(
    ("case", "code", "named"),
    [(broken, 1, "ZeroDivisionError"), (lacking, 2, "pip install scikit-learn")],
)
def test_a_case_that_fails_costs_no_other_its_figures(
    case: Callable[[Asked], Measured],
    code: int,
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    for name, each in {"before": found, "bad": case, "after": found}.items():
        monkeypatch.setitem(jobs.benches.CASES, name, each)
    words = ["--local", "--cases", "before,bad,after", "--output", str(tmp_path / "x.json")]
    assert bench.main(words) == code
    told, shown = json.loads((tmp_path / "x.json").read_text())["cases"], capsys.readouterr()
    assert told["before"]["seconds"] == told["after"]["seconds"] == {"it": 1.5}
    assert named in told["bad"]["error"] and f"bad: FAILED: {told['bad']['error']}" in shown.out
    assert "bad" in result(shown.out)["error"]
    assert ("Traceback" in shown.err) == (code == 1)


def test_a_package_that_every_case_needs_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "jobs.machine.find_spec", lambda name: None if name in ("yaml", "ray") else find_spec(name)
    )
    assert bench.main(["--local", "--cases", "scoring"]) == 2
    shown = capsys.readouterr()
    assert "pip install PyYAML" in result(shown.out)["error"] and "Traceback" not in shown.err
    assert bench.main(["--cases", "scoring"]) == 2
    assert "--local" in result(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("ratio", "limit", "told"),
    [
        (0.2, "at most 0.2", "met"),
        (0.21, "at most 0.2 of it", "MISSED"),
        (0.95, "at least 0.95", "met"),
        (0.94, "at least 0.95", "MISSED"),
        (0.94, "the goal is a fifth", "see there"),
    ],
)
def test_a_limit_is_told_in_words(ratio: float, limit: str, told: str):
    assert verdict(ratio, limit) == told
    case = {"of": "", "seconds": {}, "ratios": {"a / b": ratio}, "rows": []}
    case["limits"] = {"a / b": limit}
    assert told in "\n".join(rows_of("case", case))
    assert ("MISSED (case: a / b)" in summary({"case": case})) == (told == "MISSED")


def gradients(seed: int) -> tuple[oracles.Problem, GradientFactors]:
    """Return 40 rows whose gradients differ, for the oracle and as factors."""
    random = np.random.default_rng(seed)
    rows, classes, width = 40, 3, 5
    arrays = {
        "embedding_NH": random.normal(size=(rows, width)).astype(np.float32),
        "label_N": random.integers(0, classes, rows),
        "weight_CH": random.normal(size=(classes, width)).astype(np.float32),
        "bias_C": random.normal(size=classes).astype(np.float32),
    }
    nothing = {"embedding_VH": np.empty((0, width)), "label_V": np.empty(0)}
    problem = oracles.Problem(**arrays, ids_N=np.arange(rows), **nothing)
    return problem, GradientFactors.from_embeddings(**arrays)


@pytest.mark.parametrize("seed", range(3))
def test_facility_location_alone_picks_what_a_slow_greedy_on_expanded_gradients_picks(seed: int):
    problem, factors = gradients(seed)
    g_N = oracles.expanded(problem)
    np.testing.assert_allclose(expanded(factors), g_N.reshape(len(g_N), -1), atol=1e-6)
    slow: list[int] = []
    for _ in range(8):
        still = [row for row in range(len(g_N)) if row not in slow]
        slow.append(max(still, key=lambda row: oracles.coverage(g_N, slow, row)))
    assert cover(factors, 8) == slow


@pytest.mark.parametrize("seed", range(3))
def test_similarities_as_max_d_minus_d_change_no_gain_after_the_first_pick_and_no_pick(seed: int):
    problem, factors = gradients(seed)
    similarity_NN, g_N = similarity_of(factors), oracles.expanded(problem)
    rows = cover(factors, 8)
    assert lazy_greedy(similarity_NN, 8) == plain_greedy(similarity_NN, 8) == rows
    ours = np.cumsum([oracles.coverage(g_N, rows[:k], rows[k]) for k in range(8)])
    theirs = [value_of(rows[: k + 1], similarity_NN) for k in range(8)]
    np.testing.assert_allclose(ours - theirs, ours[0] - theirs[0], rtol=1e-5)  # float32 distances


def test_peak_bytes_sees_what_was_held_only_meanwhile():
    def held() -> int:
        return len(torch.ones(25_000_000))  # 100 MB: mapped anew, whatever the heap has free

    value, peak = peak_bytes(held)
    if peak is None:
        pytest.skip("this kernel does not forget an earlier peak")
    assert value == 25_000_000 and peak >= 90_000_000


def test_the_blocks_of_cords_are_ours_with_summed_steps():
    p = problem(3, n=90, v=12, c=4, h=6)
    factors, look = factors_of(p), lookahead_of(p)
    theirs = cords.by_blocks(cords.expanded(factors), look, 0.05, 45)
    plan = rs.Glister(step="sum", step_size=0.05, picks=rs.Block(3), balance="none")
    ours = plan.select(rs.LocalGroundSet(factors), look, 45)
    assert factors.ids_N[theirs].tolist() == ours.ids.tolist()


def test_rescoring_and_screening_pick_the_same_rows_in_the_bench():
    p = problem(5, n=120, v=15, c=3, h=8)
    factors, look = factors_of(p), lookahead_of(p)
    assert screened(factors, look, 0.01, 60).row_K.tolist() == rescored(factors, look, 0.01, 60)
