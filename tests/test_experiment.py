from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raysubset.cli.options import resolve_over
from raysubset.errors import ConfigError
from raysubset.experiment import (
    Experiment,
    did_you_mean,
    flatten,
    nest,
    options,
    read_yaml,
)
from raysubset.learn.settings import DataSettings


def of(**flat: Any) -> Experiment:
    return Experiment.of(nest({k.replace("__", "."): v for k, v in flat.items()}))


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Experiment.of(values)
    return str(caught.value)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "experiment.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NUMBERS = {
    "selection.fraction": st.floats(1e-6, 1.0),
    "selection.select_every": st.integers(1, 10**6),
    "selection.warm_start": st.floats(0, 0.999),
    "selection.candidates": st.floats(1, 1e6),
    "training.epochs": st.integers(1, 10**6),
    "training.lr": st.floats(1e-300, 1e300),
    "training.clip_norm": st.none() | st.floats(1e-9, 1e9),
    "resources.workers": st.integers(1, 1000),
    "resources.start_timeout_s": st.floats(0.1, 1e9),
    "data.limit": st.none() | st.integers(1, 10**12),
    "seed": st.integers(0, 2**63 - 1),
}
# YAML reads some of these as numbers, dates or truth where a writer forgets the quotes.
WORDS = st.sampled_from(
    [
        "1e-3",
        "0.2",
        "on",
        "no",
        "null",
        "~",
        "2024-01-01",
        "a: b",
        "- x",
        "#c",
        "é",
        " ",
        "'",
        "0x1f",
    ]
) | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
STRINGS = {
    "data.path": WORDS,
    "data.labels": WORDS,
    "data.label_column": WORDS,
    "model.name": WORDS,
    "model.head": WORDS,
}
CHOICES = {
    "selection.strategy": [
        "glister",
        "random",
        "adaptive-random",
        "full",
        "full-compressed",
        "full-validation-compressed",
        "validation-only",
        "random-validation",
    ],
    "selection.balance": ["validation", "pool", "equal", "none"],
    "selection.filters": [(), ("duplicates",)],
    "selection.glister.step_size": ["auto", 0.05, 1e-12],
    "selection.glister.picks": ["exact", "block(33)", "blocks(15)", "stochastic(0.01)"],
    "selection.glister.regularizer": ["none", "diversity(0.1)", "random(0.5)"],
    "training.channels_last": ["auto", "on", "off"],
    "training.nesterov": [True, False],
    "data.validation": [None, 0.2, "0.2", "some/file.csv"],
    "data.on_bad_row": ["refuse", "skip"],
}
FLAT = st.fixed_dictionaries(
    {},
    optional=NUMBERS | STRINGS | {k: st.sampled_from(v) for k, v in CHOICES.items()},
)


@given(FLAT)
def test_f28_yaml_and_options_give_the_same_value_and_it_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, flat: dict[str, Any]
):
    experiment = Experiment.of(nest(flat))
    folder = tmp_path_factory.mktemp("yaml")
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}
    path = write(folder, yaml.safe_dump(nest(plain), allow_unicode=True))
    if flat:
        assert Experiment.of(Experiment.read(path)) == experiment
    resolved = read_yaml(write(folder, experiment.to_yaml()))
    assert Experiment.of(resolved) == experiment
    assert Experiment.of(resolved).digest == experiment.digest
    assert experiment.differences(Experiment.of(resolved)) == []
    assert set(flatten(resolved)) == set(options()), "every field is spelled out"


def test_every_option_that_is_tried_here_exists():
    assert set(NUMBERS) | set(STRINGS) | set(CHOICES) <= set(options())


def test_texts_from_a_command_line_are_the_numbers_they_say():
    typed = of(selection__fraction="0.3", training__epochs="7", seed="5", training__lr="1e-3")
    assert typed == of(selection__fraction=0.3, training__epochs=7, seed=5, training__lr=0.001)
    assert of(data__validation="0.2") == of(data__validation=0.2)
    assert of(data__test="my/0.2").data.test == "my/0.2"


def test_an_experiment_cannot_be_changed():
    experiment = of()
    for section, field in ((experiment, "seed"), (experiment.training, "epochs")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, 3)
    assert hash(experiment) == hash(of())


def test_the_resolved_config_names_the_embedded_data():
    assert of().data.format == of(data__limit=300).data.format == "digits"
    assert DataSettings(format="cifar10").format == "cifar10"
    assert of(data__path="x.csv").data.format == "auto"


def test_every_option_has_a_help_text():
    assert all(field.description for field in options().values())


BAD: list[tuple[str, Any, str]] = [
    # option, value, what the message must say besides both
    ("selection.fraction", 0, "greater than 0"),
    ("selection.fraction", -0.1, "greater than 0"),
    ("selection.fraction", 1.5, r"in \(0, 1\]"),
    ("selection.fraction", 30, "did you mean 0.3"),
    ("selection.fraction", "30", "did you mean 0.3"),
    ("selection.fraction", "3e1", "did you mean 0.3"),
    ("selection.fraction", 101, "less than or equal to 1"),
    ("selection.fraction", math.nan, "finite"),
    ("selection.fraction", math.inf, "finite"),
    ("selection.fraction", "a tenth", "valid number"),
    ("selection.fraction", None, "valid number"),
    ("selection.fraction", True, "true or false"),
    ("selection.select_every", 0, "greater than or equal to 1"),
    ("selection.select_every", 1.5, "integer"),
    ("selection.warm_start", 1.0, "less than 1"),
    ("selection.candidates", 0.5, "greater than or equal to 1"),
    ("selection.strategy", "glistre", "'glister', 'random'"),
    ("selection.balance", "even", "'validation', 'pool'"),
    ("selection.filters", ["dupes"], "'duplicates'"),
    ("selection.filters", "duplicates", "tuple"),
    ("selection.batch_size", 0, "greater than or equal to 1"),
    ("selection.glister.step_size", -1, "greater than 0"),
    ("selection.glister.step_size", "large", "'auto'"),
    ("selection.glister.picks", "block(0)", "at least 1"),
    ("selection.glister.picks", "block(2.5)", "whole number"),
    ("selection.glister.picks", "stochastic(2)", r"in \(0, 1\)"),
    ("selection.glister.picks", "blok(3)", r"one of exact, block\(VALUE\)"),
    ("selection.glister.regularizer", "diversity(-1)", "at least 0"),
    ("selection.glister.regularizer", "random(1.5)", r"SHARE in \[0, 1\]"),
    ("training.epochs", 0, "greater than or equal to 1"),
    ("training.epochs", "ten", "integer"),
    ("training.epochs", True, "true or false"),
    ("training.batch_size", 0, "greater than or equal to 1"),
    ("training.lr", 0, "greater than 0"),
    ("training.lr", math.inf, "finite"),
    ("training.momentum", 1, "less than 1"),
    ("training.nesterov", "perhaps", "boolean"),
    ("training.augment", "flip", "'crop_flip'"),
    ("data.limit", 0, "greater than or equal to 1"),
    ("data.validation", 1.5, "share in .0, 1., or a path; did you mean 0.015"),
    ("data.tuning", "20", "did you mean 0.2"),
    ("data.test", 0, "share in .0, 1., or a path"),
    ("data.test", -0.1, "share in .0, 1., or a path"),
    ("data.path", 7, "string"),
    ("data.format", "csv", "'tabular'"),
    ("data.on_bad_row", "drop", "'skip'"),
    ("resources.workers", 0, "greater than or equal to 1"),
    ("resources.placement", "gpu", "'actors'"),
    ("resources.start_timeout_s", 0, "greater than 0"),
    ("seed", -1, "greater than or equal to 0"),
    ("seed", 2**63, "less than"),
]


@pytest.mark.parametrize(("option", "value", "remedy"), BAD)
def test_a_bad_value_is_refused_by_option_value_and_remedy(option: str, value: Any, remedy: str):
    with pytest.raises(ConfigError, match=remedy) as caught:
        Experiment.of(nest({option: value}))
    message = str(caught.value)
    # a list is refused by its bad member, a whole number may be shown as the float it became
    shown = value[0] if isinstance(value, list) else value
    assert message.startswith((f"{option}={shown!r}: ", f"{option}={shown!r}.0: "))
    assert message.count("\n") == 0 and caught.value.exit_code == 2
    assert "pydantic" not in message and "Literal" not in message


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"selection": {"fractoin": 0.1}}, "selection.fractoin; did you mean selection.fraction?"),
        ({"selction": {"fraction": 0.1}}, "selction; did you mean selection?"),
        ({"fraction": 0.1}, "fraction; did you mean selection.fraction?"),
        ({"workers": 2}, "workers; did you mean resources.workers?"),
        ({"selection": {"workers": 2}}, "selection.workers; did you mean resources.workers?"),
        (
            {"selection": {"glister": {"normalise": True}}},
            "selection.glister.normalise; did you mean selection.glister.normalize?",
        ),
        ({"selection": {"zzzzzz": 1}}, "selection.zzzzzz"),
        ({"zzzzzz": 1}, "zzzzzz"),
    ],
)
def test_f28_an_unknown_option_is_refused_with_the_nearest_one(values: dict[str, Any], hint: str):
    assert refusal(values) == f"unknown option {hint}"


@pytest.mark.parametrize("name", list(options()))
def test_every_option_is_found_again_after_a_slip(name: str):
    *_, last = name.rpartition(".")
    slip = last[:-2] + last[-1] + last[-2]
    if len(last) > 2:  # two letters have no near miss
        assert f"did you mean {name}?" in did_you_mean(
            name.removesuffix(last) + slip, list(options())
        )


def test_several_mistakes_are_told_at_once_but_not_without_end():
    message = refusal({"selection": {"fraction": 30}, "training": {"epochs": 0}, "sed": 1})
    assert len(message.splitlines()) == 3
    many = refusal({f"k{i}": 0 for i in range(5000)})
    assert len(many.splitlines()) == 11 and many.endswith("... and 4990 more")


@pytest.mark.parametrize("value", [None, 5, "x", [1]])
@pytest.mark.parametrize("section", ["training", "selection.glister", "data"])
def test_a_section_that_is_no_section_is_refused_by_its_name(section: str, value: Any):
    message = refusal(nest({section: value}))
    assert message.startswith(f"{section}=") and "must be a section of options" in message


def test_a_key_that_is_no_text_is_refused():
    assert "keys should be strings" in refusal({1: 2})  # pyright: ignore[reportArgumentType]


def test_yamls_bare_on_is_the_word_on(tmp_path: Path):
    path = write(tmp_path, "training:\n  channels_last: on\n")
    assert Experiment.of(Experiment.read(path)).training.channels_last == "on"


def test_differences_name_the_option_and_both_values():
    a = of(seed=1, selection__fraction=0.1, selection__glister__picks="block(33)")
    b = of(seed=2, selection__fraction=0.1)
    assert set(a.differences(b)) == {
        "seed: 1 -> 2",
        "selection.glister.picks: block(33) -> exact",
    }
    assert a.differences(a) == []
    assert a.digest != b.digest


@given(FLAT, FLAT)
def test_two_experiments_differ_exactly_where_their_digests_do(
    one: dict[str, Any], other: dict[str, Any]
):
    a, b = Experiment.of(nest(one)), Experiment.of(nest(other))
    assert (a == b) == (a.differences(b) == []) == (a.digest == b.digest)


@given(FLAT)
def test_flatten_undoes_nest(flat: dict[str, Any]):
    assert flatten(nest(flat)) == flat


def test_the_table_of_strategies_is_whole():
    from raysubset.experiment import StrategyName

    assert set(get_args(StrategyName)) == set(CHOICES["selection.strategy"])


def test_a_data_option_beside_a_file_leaves_the_files_data(tmp_path: Path):
    (tmp_path / "e.yaml").write_text("data: {format: cifar10, path: /data/cifar10}\n")
    given = Experiment.of({"data": {"limit": 60}})
    found = resolve_over({}, str(tmp_path / "e.yaml"), given, None).data
    assert (found.format, found.path, found.limit) == ("cifar10", "/data/cifar10", 60)
    (tmp_path / "e.yaml").write_text("data: {path: /data/rows.parquet}\n")
    assert resolve_over({}, str(tmp_path / "e.yaml"), given, None).data.format == "auto"
