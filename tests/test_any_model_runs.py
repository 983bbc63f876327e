"""Whole runs of people's own models, by the command: what they return, one logit, frozen, text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from raysubset.cli import call
from raysubset.doctor.reading import read
from raysubset.experiment import Experiment
from raysubset.learn.checkpoint import WEIGHTS
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.models import build_model
from raysubset.learn.states import read_state
from raysubset.records import read_history
from tests.learn.ranks import CPU, never
from tests.small_runs import Left, assert_same_run, experiment, same_weights
from tests.test_own_code import BUILD, MARKER

OWN = "tests.learn.awkward_models"
FEW = (
    "--local --selection.select_every 1 --fraction 0.25 --selection.batch_size 64 "
    "--selection.glister.picks blocks(3)"
).split()
ADAPTED = ["--model.name", f"{OWN}:WithOddDict", "--model.adapter", f"{OWN}:scores_of"]
Ran = Callable[..., Left]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Run a command in a folder of its own, and return what it left."""
    monkeypatch.setattr("os.fsync", lambda _: None)

    def run(*words: str, folder: str = "run", command: str = "run", epochs: int = 2) -> Left:
        place = tmp_path / folder
        given = ["--run-dir", str(place), "--epochs", str(epochs)]
        assert call([command, *given, *FEW, *words])[0] == 0
        return Left(place)

    return run


def digits(*words: str) -> list[str]:
    return ["--data", "digits", "--data.limit", "200", *words]


def best(left: Left) -> float:
    return max(line["validation_accuracy"] for line in left.history if line["kind"] == "round")


def test_a_small_torchvision_vit_on_real_images(ran: Ran, shared_data: Path):
    file = shared_data / "cifar10" / "test-00000-of-00001.parquet"
    words = ["--data", str(file), "--data.limit", "200"]
    left = ran(*words, "--model.name", f"{OWN}:small_vit")
    assert len(left.rounds) == 2 and len(left.ids[1]) == len(set(left.ids[1])) > 9
    assert "heads.head.weight" in left.weights()
    assert left.result is not None


@pytest.mark.parametrize("frozen", [[], ["--model.frozen", "true"]])
def test_a_model_of_ones_own_with_a_dict_on_a_real_table(
    frozen: list[str], ran: Ran, shared_data: Path
):
    table = [
        *("--data", str(shared_data / "tabular" / "dna" / "train.parquet")),
        *("--data.limit", "400", "--training.lr", "0.02"),
    ]
    adapted = ran(*table, *ADAPTED, *frozen)
    named = ran(*table, "--model.name", f"{OWN}:WithDict", *frozen, folder="named")
    plain = ran(*table, "--model.name", f"{OWN}:Body", *frozen, folder="plain")
    for other in (named, plain):
        assert adapted.ids == other.ids and adapted.gains == other.gains
        assert same_weights(adapted.weights(), other.weights())
    assert best(plain) > 0.4  # 3 classes, of which the largest is half of the rows


def test_a_checkpoint_has_the_models_own_names_and_is_chosen_by_again(ran: Ran, tmp_path: Path):
    left = ran(*digits(*ADAPTED))
    own = build_model(f"{OWN}:WithOddDict", in_shape=(1, 8, 8), num_classes=10, seed=0)
    file = left.rounds[-1] / "checkpoint" / WEIGHTS
    assert read_state(file).keys() == own.state_dict().keys()
    words = ["select", "--local", "--fraction", "0.1"]
    by_run = [*words, "--checkpoint", str(left.path), *ADAPTED, "--run-dir", str(tmp_path / "a")]
    by_file = ["--checkpoint", str(file), "--run-dir", str(tmp_path / "b")]
    assert call(by_run)[0] == 0
    assert call([*words, *digits(*ADAPTED), *FEW[-4:], *by_file])[0] == 0
    ids = [(tmp_path / name / "ids.txt").read_text() for name in "ab"]
    assert len(ids[0].split()) > 9 and len(ids[1].split()) > 9


def test_a_stopped_run_of_an_adapted_model_goes_on(ran: Ran, tmp_path: Path):
    whole = ran(*digits(*ADAPTED))
    again = ran(*digits(*ADAPTED), folder="again")
    assert_same_run(whole, again)
    words = ["run", "--local", "--run-dir", str(tmp_path / "again"), "--resume"]
    assert call([*words, *ADAPTED])[0] == 0
    assert_same_run(whole, Left(tmp_path / "again"))


def test_one_logit_serves_two_classes_in_every_command(ran: Ran, shared_data: Path, tmp_path: Path):
    words = [
        *("--data", str(shared_data / "tabular" / "svmguide1" / "train.parquet")),
        *("--data.limit", "300", "--model.name", f"{OWN}:OneLogit"),
    ]
    left = ran(*words, epochs=6)
    assert left.weights()["head.weight"].shape == (1, 12)
    assert best(left) > 0.8
    ran(*words, command="compare", folder="compared")
    assert (tmp_path / "compared" / "report.html").is_file()


def binary_problem() -> Any:
    from raysubset.learn.problem import make_problem
    from raysubset.learn.sources import Sources, load_sources

    asked = experiment(model__name=f"{OWN}:OneFlatLogit", training__momentum=0.0)
    source = load_sources(**asked.data.of_sources(), seed=0)

    def two(dataset: Any) -> Any:
        from dataclasses import replace

        return replace(dataset, label_N=dataset.label_N % 2, class_names=("even", "odd"))

    training = asked.training.model_copy(
        update={"nesterov": False, "momentum": 0.0, "warmup": 0.0, "weight_decay": 0.0}
    )
    return make_problem(
        data=asked.data,
        model=asked.model,
        training=training.model_copy(update={"augment": "none", "batch_size": 64}),
        scoring_batch=32,
        threads=1,
        seed=0,
        sources=Sources(train=two(source.train), validation=None, test=None),
    )


def test_one_logit_is_trained_by_its_sigmoid_cross_entropy():
    problem = binary_problem()
    learner, ids = Learner(problem, CPU, world=1), problem.parts.pool.id_N[:64]
    twin, _ = problem.build()
    twin._forward_hooks.clear()  # the model alone, as its owner wrote it
    order = TrainOrder(
        ids_EK=ids[None], weights_K=None, epochs=range(1), visits_before=0, total_visits=10**9
    )
    trace = learner.train(order, never)[0]
    content, label = problem.parts.pool.take(ids)
    z = twin.train()(problem.normalize(torch.from_numpy(content)))
    assert z.ndim == 1
    loss = binary_cross_entropy_with_logits(z, torch.from_numpy(label).float())
    loss.backward()
    torch.testing.assert_close(torch.tensor(trace.loss_K.mean()), loss.detach())
    for name, parameter in twin.named_parameters():
        moved = dict(learner.model.named_parameters())[name]
        wanted = parameter.detach() - trace.lr * parameter.grad
        torch.testing.assert_close(moved.detach(), wanted)  # float32: sums in another order


def test_a_text_model_reads_token_ids_as_they_are(ran: Ran, tmp_path: Path):
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 240)
    tokens = draw.integers(1, 500, (240, 8)) + 400 * label[:, None]
    columns = {f"token_{i}": tokens[:, i].astype(np.int64) for i in range(8)}
    pq.write_table(pa.table({**columns, "label": label}), tmp_path / "tokens.parquet")
    left = ran(
        *("--data", str(tmp_path / "tokens.parquet"), "--model.inputs", "raw"),
        *("--model.name", "examples.own_text_model:build"),
        epochs=3,
    )
    assert "bert.embeddings.word_embeddings.weight" in left.weights()
    assert len(left.rounds) == 3


def test_what_a_frozen_run_kept_is_told_in_its_history(ran: Ran):
    left = ran(*digits("--model.name", "convnet", "--model.frozen", "true"), epochs=3)
    told = [line for line in read_history(left.path) if line.get("examples_scored")]
    assert [line["examples_forwarded"] for line in told] == [told[0]["examples_scored"], 0.0]
    assert told[1]["examples_remembered"] == told[1]["examples_scored"]


WIDE = ["--model.name", "tests.test_any_model_runs:too_wide"]


@pytest.mark.parametrize("command", ["run", "compare", "frontier", "select"])
def test_a_forward_that_fails_on_the_first_batch_is_told_with_its_shape(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [command, "--local", *digits(*WIDE), "--run-dir", str(tmp_path / "run")]
    if command == "select":
        torch.save({"weight": torch.zeros(2)}, tmp_path / "some.pt")
        words += ["--checkpoint", str(tmp_path / "some.pt")]
    code = call(words)[0]
    shown = "".join(capsys.readouterr())
    assert code == 2, shown
    assert "(2, 1, 8, 8)" in " ".join(shown.split()), shown
    assert "Traceback" not in shown
    assert not (tmp_path / "run").exists()


def test_the_doctor_tells_a_forward_that_fails():
    options = {"model__name": "tests.test_any_model_runs:too_wide"}
    findings = read(experiment(**options), 60).findings
    failed = [finding for finding in findings if finding.status == "failed"]
    assert [finding.name for finding in failed] == ["model"]
    assert "(2, 1, 8, 8)" in failed[0].found


@pytest.mark.parametrize(
    ("words", "frozen"),
    [
        (["--model.frozen"], True),
        (["--model.frozen", "true"], True),
        (["--model.frozen=true"], True),
        (["--model.frozen", "false"], False),
        (["--model.no-frozen"], False),
        (["--model.frozen", "--seed", "1"], True),
    ],
)
def test_an_option_that_is_true_or_false_is_written_in_any_way(
    words: list[str], frozen: bool, ran: Ran
):
    left = ran(*digits("--model.name", f"{OWN}:Body", *words))
    stored = Experiment.read(left.path / "experiment.yaml")
    assert stored["model"]["frozen"] is frozen


def too_wide(num_classes: int) -> torch.nn.Module:
    """Return a model for other images than these."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(99, num_classes))


def test_an_adapter_is_code_that_no_folder_may_name(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    left = ran(*digits(*ADAPTED))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(MARKER + BUILD)
    path = left.path / "experiment.yaml"
    path.write_text(path.read_text().replace(f"{OWN}:scores_of", "evil:build"))
    for words in (["run", "--resume", "--run-dir"], ["select", "--checkpoint"]):
        code = call([*words[:1], "--local", *words[1:], str(left.path), *ADAPTED[:2]])[0]
        assert code == 2
        assert "its adapter is evil:build" in capsys.readouterr().err
    assert call(["verify", str(left.path), "--model", f"{OWN}:WithOddDict"])[0] in (0, 1)
    assert not (tmp_path / "RAN").exists()
