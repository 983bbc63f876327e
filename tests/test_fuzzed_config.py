"""Whatever is written for a config: a sentence and exit code 2, or an experiment that lasts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.cli import call
from raysubset.errors import ConfigError, RaySubsetError
from raysubset.experiment import Experiment, options, read_yaml
from raysubset.frontier.settings import FrontierSettings, settings_of
from raysubset.preparation import prepare
from tests.small_runs import SMALL

NUMBERS = [0, 1, -1, 2, 30, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**70), 10**400]
FLOATS = [0.0, -0.0, 5e-324, 0.5, 1.0, 1.5, 1e9, 1e300, 1.8e308, float("nan"), float("inf")]
TEXTS = [
    *("", " ", "auto", "none", "null", "nan", "inf", "1e999", "0x10", "1_000", "07", "on", "30"),
    *("glister", "exact", "block(1e999)", "blocks(99999999999999999999)", "random(-0.0)"),
    *("..", "../../etc", "/", "~", "-rf", "=cmd()", "<script>", "[/b]", "%s{x}", "a\0b", "a\nb"),
    *("\x1b[2J", "\udc80", "\ud83d", "\ufeff", "\u2028", "\x85", "\uffff", "9" * 5000, "a" * 5000),
    *("a:b", ":", "a:", "s3://key:secret@bucket/x", "http://h/?token=secret", "!!python/name:os"),
]
PLAIN = (
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(FLOATS)
    | st.sampled_from(TEXTS) | st.integers() | st.floats() | st.text(max_size=12)
)  # fmt: skip
WILD = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=6,
)
SECTIONS = sorted({name.rpartition(".")[0] for name in options()} - {""})
NAMES = st.sampled_from([*options(), *SECTIONS]) | st.sampled_from(
    ["selection.fractoin", "selction", "workers", "selection.glister.x", "", ".", "data..path"]
)
FLAT = st.dictionaries(NAMES | st.text(max_size=8), WILD, max_size=4)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return nested values, whatever the names are; a later one wins over one in its way."""
    made: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, option = name.split(".")
        place = made
        for section in sections:
            inner = place.get(section)
            place[section] = place = inner if isinstance(inner, dict) else {}
        place[option] = value
    return made


def check_sentence(told: str) -> None:
    """Fail unless a person can read it, and no secret and no control character is in it."""
    assert told and len(told) < 6000 and told.count("\n") <= 12
    for never in ("Traceback", "pydantic", "secret", "\0", "\x1b[2J"):
        assert never not in told


def accepted(values: dict[str, Any]) -> Experiment | None:
    """Return the experiment, or None where it was refused in a sentence."""
    try:
        return Experiment.of(values)
    except ConfigError as error:
        assert error.exit_code == 2
        check_sentence(str(error))
        return None


def check_lasting(experiment: Experiment, path: Path) -> None:
    """Fail unless an experiment is the same once it is written and read."""
    path.write_text(experiment.to_yaml(), encoding="utf-8")
    again = Experiment.of(Experiment.read(path))
    assert again == experiment
    assert again.digest == experiment.digest
    assert again.differences(experiment) == []


@settings(max_examples=150)
@given(FLAT)
def test_f28_wild_values_are_refused_in_a_sentence_or_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, flat: dict[str, Any]
):
    if experiment := accepted(nested(flat)):
        check_lasting(experiment, tmp_path_factory.getbasetemp() / "lasting.yaml")


@pytest.mark.parametrize("name", list(options()))
def test_f28_every_option_refuses_or_keeps_every_wild_value(name: str, tmp_path: Path):
    for value in [None, True, *NUMBERS, *FLOATS, *TEXTS, [], {}, ["duplicates"], [[1]], {"a": 1}]:
        if experiment := accepted(nested({name: value})):
            check_lasting(experiment, tmp_path / "lasting.yaml")


PIECES = st.sampled_from(
    [
        *("*a", "&a ", "<<: *a", "? ", "- ", "{", "}", "[", "]", "|\n", ">\n", "\t", "\n", "---\n"),
        *("!!int ''", "!!bool x", "!!timestamp x", "!!binary x", "!!set {x}", "!x ", "%YAML 9.9\n"),
        *("'", '"', "#", ":", ": ", ",", "=", "~", "0b_", "2024-99-99", "1:99:99", ".inf", "\\"),
        *("0001-01-01T00:00:00+23:59", "\x85", "\ufeff", "\0", "seed: 1\n", "data:\n", "9" * 5000),
    ]
) | st.text(max_size=4)
EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9), PIECES), max_size=6)


@settings(max_examples=150)
@given(EDITS)
def test_f28_a_file_with_anything_written_into_it_is_an_experiment_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, str]]
):
    text, path = Experiment().to_yaml(), tmp_path_factory.getbasetemp() / "edited.yaml"
    for at, gone, piece in edits:
        at %= len(text) + 1
        text = text[:at] + piece + text[at + gone :]
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        experiment = Experiment.of(Experiment.read(path))
    except ConfigError as error:
        check_sentence(str(error))
    else:
        check_lasting(experiment, path)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_f28_a_file_of_any_bytes_is_a_mapping_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_yaml(path), dict)
    except ConfigError as error:
        check_sentence(str(error))


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(list(FrontierSettings.model_fields)) | st.text(max_size=6),
        WILD,
        max_size=4,
    )
)
def test_f28_wild_settings_of_a_frontier_are_refused_in_a_sentence_or_survive(
    values: dict[str, Any],
):
    try:
        made = settings_of(values)
    except ConfigError as error:
        check_sentence(str(error))
    else:
        assert settings_of(made.model_dump(mode="json")) == made


WORDS = st.one_of(
    st.sampled_from([f"--{name}" for name in options()]),
    st.sampled_from(
        "--data --strategy --fraction --epochs --seed --run-dir --resume --strict --json --goal "
        "--fractions --strategies --seeds --max-drop --tune-lr --sweep --search --samples --head "
        "--checkpoint --embeddings --id --round --format --output --price-per-hour --patience "
        "--no-controls --find --max-runs -h --version -- - = --= --x=".split()
    ),
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS).map(str),
    st.text(max_size=8),
)
LINES = st.lists(WORDS, max_size=6)
COMMANDS = ("run", "compare", "frontier", "select", "doctor", "report", "explain", "export")


def called(words: Sequence[str]) -> tuple[int, str]:
    """Return exit code and standard error of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code, _ = call(words)
    return code, err.getvalue()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Commands read their words and then do nothing; what they would write lands in a folder."""
    patch = pytest.MonkeyPatch()
    patch.chdir(tmp_path_factory.mktemp("here"))
    patch.setattr("raysubset.cli.runs.run_one", lambda *_, **__: None)
    patch.setattr("raysubset.cli.runs._compare", lambda *_, **__: None)
    patch.setattr("raysubset.cli.frontier.run_frontier", _refuse)
    patch.setattr("raysubset.cli.selecting.run_select", _refuse)
    patch.setattr("raysubset.cli.doctor.diagnose", _refuse)
    patch.setattr("raysubset.selecting.ready.from_checkpoint", _refuse)
    patch.setattr("raysubset.selecting.ready.from_embeddings", _refuse)
    yield
    patch.undo()


def _refuse(*_: object, **__: object) -> None:
    raise ConfigError("it would have begun.")


@pytest.mark.parametrize("command", COMMANDS)
@settings(max_examples=40)
@given(words=LINES)
def test_f28_any_command_line_begins_or_ends_with_code_2_and_a_sentence(
    idle: None, command: str, words: list[str]
):
    local = ["--local"] * (command in ("run", "compare", "frontier", "select"))
    code, err = called([command, *words, *local])
    if code:
        assert code == 2 and err.startswith("error: ")
        check_sentence(err)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(list(options())), PLAIN, min_size=1, max_size=3))
def test_f14_what_the_config_lets_pass_is_prepared_or_refused_in_a_sentence(
    idle: None, flat: dict[str, Any]
):
    experiment = accepted(nested(SMALL | flat))
    if experiment is None:
        return
    try:
        prepare(experiment)
    except RaySubsetError as error:
        assert error.exit_code == 2
        check_sentence(str(error))
