"""From a platform's variables and files to the job and its experiment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.container.platform_job import PlatformJob, experiment_of, option_of, read_job
from jobs.container.ray_node import token_of, with_token
from jobs.container.round_lines import METRIC_DEFINITIONS, round_line, run_line
from jobs.container.train import main
from raysubset.engine import Outcome
from raysubset.errors import ConfigError
from raysubset.experiment import options
from raysubset.schedule import Phase


def job(tmp_path: Path, hyperparameters: dict[str, Any] | None = None, **more: str) -> PlatformJob:
    """Return a job with a train channel."""
    told = {"fraction": 0.2} if hyperparameters is None else hyperparameters
    environ = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SM_CHANNEL_TRAIN": "/in/train",
        "SM_HPS": json.dumps(told),
    }
    return read_job(environ | more)


def test_variables_and_the_platforms_own_files_give_the_same_job(tmp_path: Path) -> None:
    hyperparameters = {"fraction": "0.2", "model": '"mlp"'}
    config, data = tmp_path / "input" / "config", tmp_path / "input" / "data"
    config.mkdir(parents=True)
    for channel in ("train", "validation"):
        (data / channel).mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    hosts = {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    files = read_job({"SAGEMAKER_BASE_DIR": str(tmp_path)}, ["train"])
    variables = read_job(
        {
            "SM_CHANNEL_TRAIN": str(data / "train"),
            "SM_CHANNEL_VALIDATION": str(data / "validation"),
            "SM_HPS": json.dumps(hyperparameters),
            "SM_HOSTS": json.dumps(hosts["hosts"]),
            "SM_CURRENT_HOST": "algo-2",
            "SM_MODEL_DIR": str(tmp_path / "model"),
            "SM_OUTPUT_DATA_DIR": str(tmp_path / "output" / "data"),
            "SM_CHECKPOINT_DIR": str(tmp_path / "checkpoints"),
            "SM_OUTPUT_DIR": str(tmp_path / "output"),
        }
    )
    assert files == variables
    assert files.hosts == ("algo-1", "algo-2") and not files.leads


@pytest.mark.parametrize("form", [lambda v: v, str, json.dumps, lambda v: json.dumps(str(v))])
def test_a_hyperparameter_means_the_same_however_often_it_was_made_text(
    tmp_path: Path, form: Any
) -> None:
    plain = {"fraction": 0.2, "epochs": 30, "lr": 0.001, "seed": 3, "strategy": "random"}
    told = experiment_of(job(tmp_path, {k: form(v) for k, v in plain.items()}), gpus=0)
    assert told.selection.fraction == 0.2 and told.selection.strategy == "random"
    assert (told.training.epochs, told.training.lr, told.seed) == (30, 0.001, 3)


def test_plain_words_dotted_words_and_the_platforms_own(tmp_path: Path) -> None:
    given = {
        "batch-size": 8,
        "selection.batch_size": "64",
        "select_every": "2",
        "nesterov": "false",
        "label_column": 7,
        "filters": '["duplicates"]',
        "clip_norm": "null",
        "sagemaker_region": "somewhere",
        "_tuning_objective_metric": "validation:accuracy",
    }
    told = experiment_of(job(tmp_path, given), gpus=0)
    assert (told.training.batch_size, told.selection.batch_size) == (8, 64)
    assert told.selection.select_every == 2 and told.training.nesterov is False
    assert told.data.label_column == "7" and told.selection.filters == ("duplicates",)
    assert told.training.clip_norm is None


def test_channels_are_the_parts_and_ranks_are_the_gpus_of_all_hosts(tmp_path: Path) -> None:
    parts = {f"SM_CHANNEL_{part}": f"/in/{part}" for part in ("VALIDATION", "TUNING", "TEST")}
    hosts = {"SM_HOSTS": '["a", "b"]', "SM_CURRENT_HOST": "a"}
    one = job(tmp_path, {"labels": "human.parquet"}, **parts, **hosts)
    told = experiment_of(one, gpus=4)
    assert told.data.path == "/in/train" and told.data.labels == "/in/train/human.parquet"
    assert (told.data.validation, told.data.tuning) == ("/in/VALIDATION", "/in/TUNING")
    assert told.data.test == "/in/TEST"
    assert told.resources.workers == 8 and experiment_of(one, gpus=0).resources.workers == 2
    asked = job(tmp_path, {"workers": "3"}, **hosts)
    assert experiment_of(asked, gpus=4).resources.workers == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"fracton": 0.1}, "unknown hyperparameter fracton; did you mean fraction"),
        ({"selection.fracton": 0.1}, "did you mean selection.fraction"),
        ({"fraction": "10"}, "did you mean 0.1"),
        ({"path": "/elsewhere"}, "data.path"),
        ({"fraction": "a tenth"}, "selection.fraction"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_remedy(
    tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        experiment_of(job(tmp_path, given), gpus=0)


def test_a_job_without_a_train_channel_is_refused_unless_its_data_is_built_in(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="no train channel"):
        experiment_of(job(tmp_path, SM_CHANNEL_TRAIN=""), gpus=0)
    told = job(tmp_path, {"data.format": "digits"}, SM_CHANNEL_TRAIN="")
    assert experiment_of(told, gpus=0).data.path is None


def test_damaged_inputs_and_a_foreign_host_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SM_HPS is not valid JSON"):
        job(tmp_path, SM_HPS="{")
    with pytest.raises(ConfigError, match="not among the job's hosts"):
        job(tmp_path, SM_HOSTS='["a"]', SM_CURRENT_HOST="b")
    with pytest.raises(ConfigError, match="unknown word"):
        read_job({"SAGEMAKER_BASE_DIR": str(tmp_path)}, ["serve"])


def test_every_option_answers_to_its_own_name_and_to_no_other() -> None:
    known = list(options())
    assert [option_of(name, known) for name in known] == known
    last = [name.rpartition(".")[2] for name in known]
    for name in known:
        short = name.rpartition(".")[2]
        if last.count(short) == 1 and short not in ("model", "strategy"):
            assert option_of(short, known) == name
    with pytest.raises(ConfigError, match=r"x may mean a\.x or b\.x; write one of them"):
        option_of("x", ["a.x", "b.x"])


def test_script_mode_words_are_hyperparameters_too(tmp_path: Path) -> None:
    words = ["--fraction", "0.3", "--epochs=5"]
    told = read_job({"SAGEMAKER_BASE_DIR": str(tmp_path)}, words).hyperparameters
    assert told == {"fraction": "0.3", "epochs": "5"}


def test_hosts_agree_on_a_token_and_one_host_needs_to_tell_nobody(tmp_path: Path) -> None:
    def of(host: str, name: str = "job-1", **more: str) -> str:
        hosts = {"SM_HOSTS": '["a", "b"]', "SM_CURRENT_HOST": host, "TRAINING_JOB_NAME": name}
        return token_of(job(tmp_path, **hosts), more)[0]

    assert of("a") == of("b") != of("a", "job-2")
    assert of("a", RAY_AUTH_TOKEN="given") == "given"
    alone = job(tmp_path)
    assert token_of(alone, {})[0] != token_of(alone, {})[0]
    with pytest.raises(ConfigError, match="channel named token"):
        of("a", "")


def test_a_token_channel_is_taken_before_anything_derived(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    told = job(tmp_path, SM_CHANNEL_TOKEN=str(tmp_path), SM_HOSTS='["a", "b"]', SM_CURRENT_HOST="a")
    assert token_of(told, {}) == ("0123456789abcdef", "")
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="16 characters"):
        token_of(told, {})


def test_rays_token_lies_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    before = {"RAY_AUTH_TOKEN": "x", "RAY_ADDRESS": "elsewhere", "PATH": "p"}
    environ = with_token(before, "t" * 20, tmp_path)
    path = Path(environ["RAY_AUTH_TOKEN_PATH"])
    assert path.read_text() == "t" * 20 and path.stat().st_mode & 0o777 == 0o600
    assert environ["RAY_AUTH_MODE"] == "token" and "t" * 20 not in environ.values()
    assert "RAY_AUTH_TOKEN" not in environ and "RAY_ADDRESS" not in environ


def test_the_lines_are_what_the_metric_definitions_read() -> None:
    metrics = {
        "validation_accuracy": 0.91,
        "validation_loss": 1.5e-05,
        "seconds_scoring": 1.0,
        "seconds_greedy": 0.2,
        "seconds_training": 3.0,
        "tuning_accuracy": None,
    }
    phase = Phase(
        round=3,
        strategy="glister",
        budget=129,
        epochs=range(30, 40),
        visits_before=0,
        total_visits=9,
    )
    numbers = dict.fromkeys(Outcome.__dataclass_fields__, 0.5)
    outcome = Outcome(**numbers | {"strategy": "glister", "tuning_accuracy": None})  # type: ignore[arg-type]
    lines = f"{round_line(phase, metrics)}\n{run_line(outcome)}"
    read = {name: re.findall(regex, lines) for name, regex in METRIC_DEFINITIONS.items()}
    assert read == {
        "validation:accuracy": ["0.91"],
        "validation:loss": ["1.5e-05"],
        "subset:size": ["129"],
        "seconds:selection": ["1.2"],
        "seconds:training": ["3"],
        "test:accuracy": ["0.5"],
        "speed_up": ["0.5"],
    }
    assert "None" not in lines and "round=3 epoch=39 " in lines


def test_a_refusal_stands_where_the_platform_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("SM_HPS", '{"fracton": 0.1}')
    failure = tmp_path / "output" / "failure"
    failure.parent.mkdir()
    failure.write_text("of an attempt before this one")
    assert main(["train"]) == 2
    assert failure.read_text().startswith("unknown hyperparameter fracton; did you mean fraction?")
    assert len(failure.read_text()) <= 1024
