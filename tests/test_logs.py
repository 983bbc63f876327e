"""Log lines as JSON: each parses, and says of which run and round it is."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from raysubset import logs
from raysubset.cli.app import call
from raysubset.errors import ConfigError
from raysubset.records import read_history
from tests.small_runs import SMALL

TOKENS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Generator[None]:
    logger = logging.getLogger("raysubset")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before
    logger.setLevel(before[1])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_lines_of_a_run_parse_and_tell_the_rounds_of_its_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(logs.VARIABLE, "json")
    code, _ = call(["run", *TOKENS, "--run-dir", str(tmp_path / "demo"), "--local"])
    assert code == 0
    told = lines(capsys.readouterr().err)
    rounds = [line for line in read_history(tmp_path / "demo") if line["kind"] == "round"]
    done = [line for line in told if line.get("stage") == "round"]
    assert [line["round"] for line in done] == [line["round"] for line in rounds]
    for line, recorded in zip(done, rounds, strict=True):
        assert line["validation_loss"] == recorded["validation_loss"]
        assert line["strategy"] == recorded["strategy"]
    for line in told:
        assert line["run"] == "demo"
        assert line["logger"].startswith("raysubset.")
        assert line["time"].endswith("Z")
        assert {"level", "message"} <= set(line)


def test_a_persons_terminal_sees_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    call(["run", *TOKENS, "--run-dir", str(tmp_path / "demo"), "--local"])
    assert "{" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "json_lines"),
    [
        ({}, False),
        ({"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, True),
        ({"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", logs.VARIABLE: "text"}, False),
        ({logs.VARIABLE: "json"}, True),
    ],
)
def test_a_submitted_job_logs_json_unless_it_is_told_otherwise(
    environ: dict[str, str], json_lines: bool
):
    assert logs.wanted(environ) is json_lines


def test_another_format_is_refused():
    with pytest.raises(ConfigError, match="RAYSUBSET_LOG=xml is unknown; choose json or text"):
        logs.wanted({logs.VARIABLE: "xml"})


def test_fields_hold_while_they_hold_and_a_record_knows_better():
    formatter = logs.JsonLines()
    record = logging.makeLogRecord({"msg": "two\nlines", "round": 7})
    with logs.fields(run="demo", round=3), logs.fields(stage="scoring"):
        line = json.loads(formatter.format(record))
    assert (line["run"], line["round"], line["stage"]) == ("demo", 7, "scoring")
    assert line["message"] == "two\nlines"
    assert "\n" not in formatter.format(record)
    assert "run" not in json.loads(formatter.format(record))


class JSONFormatter(logging.Formatter):
    """Called as Ray's is."""


class Late(logging.Handler):
    """Keeps its formatter as Ray Train's handler does: for a file that it opens later."""

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        self._formatter = fmt


@pytest.mark.parametrize("every", [False, True])
def test_a_ray_processs_json_takes_this_shape_and_a_persons_text_stays(
    monkeypatch: pytest.MonkeyPatch, every: bool
):
    ours, late, text = logging.StreamHandler(), Late(), logging.StreamHandler()
    ours.setFormatter(JSONFormatter())
    late.setFormatter(JSONFormatter())
    text.setFormatter(logging.Formatter())
    monkeypatch.setattr(logging.getLogger(), "handlers", [ours, late, text])
    logs.reshape(every=every)
    assert isinstance(ours.formatter, logs.JsonLines)
    assert isinstance(late._formatter, logs.JsonLines)
    assert isinstance(text.formatter, logs.JsonLines) is every


def test_an_error_and_a_value_that_is_no_json_still_make_one_line():
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.makeLogRecord({"msg": "x", "exc_info": sys.exc_info(), "path": Path("/a")})
    [line] = logs.JsonLines().format(record).splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]
    assert json.loads(line)["path"] == "/a"
