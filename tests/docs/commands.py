"""The command lines of a bash block: what they call, run here or followed to where work begins."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.docs.pages import Block

CHEAP = ("--local", "--epochs 2", "--selection.select_every 1")
"""What is added to a command that trains, where its block says nothing else."""
TRAINING = ("run", "compare", "frontier")
_STARTS = {
    "run": ("raysubset.preparation.prepare",),
    "compare": ("raysubset.preparation.prepare",),
    "frontier": ("raysubset.cli.frontier.run_frontier",),
    "doctor": ("raysubset.cli.doctor.diagnose",),
    "select": (
        "raysubset.selecting.ready.from_checkpoint",
        "raysubset.selecting.ready.from_embeddings",
    ),
}
"""Where the work of each command begins: its words are resolved by then."""
_OF_JOB = {"train": "run", "sweep": "frontier", "select": "select"}
_MODULE = re.compile(r"python3?")


class Began(Exception):
    """A command reached the point where its work begins: all options were accepted."""


def commands(block: Block) -> Iterator[list[str]]:
    """Give every simple command of a bash block as its words, without comments and assignments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="&;|")
        reader.whitespace_split, reader.commenters = True, "#"
        words: list[str] = []
        for word in [*reader, ";"]:
            if not set(word) <= set("&;|"):
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def simple(text: str) -> list[str]:
    """Return the words of one command inside prose; what it shows in brackets is given too."""
    return shlex.split(text.replace("[", "").replace("]", ""))


def ours(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return what of ours a command calls: ("raysubset" or a module, its words); None for others.

    What `ray job submit ... --` and `uv run` are given is looked at, not they.
    """
    words = [*words]
    if words[:3] == ["ray", "job", "submit"] and "--" in words:
        words = words[words.index("--") + 1 :]
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    if words[:1] == ["raysubset"]:
        return "raysubset", words[1:]
    if len(words) > 2 and _MODULE.fullmatch(words[0]) and words[1] == "-m":
        module, rest = words[2], words[3:]
        if module == "raysubset.cli":
            return "raysubset", rest
        if module.startswith("jobs."):
            return module, rest
    return None


def run_here(words: list[str], instead: str) -> None:
    """Run a command of ours in this process, made cheap; it has to end well.

    Args:
        words: the command and its options.
        instead: options of a training that replace the page's own or are added.
    """
    from raysubset.cli import call

    options: list[str] = []
    if words[0] in TRAINING:
        options = re.split(r"\s(?=--)", instead.strip()) if instead.strip() else []
        chosen = {option.split()[0] for option in options}
        options += [option for option in CHEAP if option.split()[0] not in chosen]
    elif words[0] == "select":
        options = ["--local"]
    code, _ = call(with_options(words, options))
    assert code == 0, f"exit code {code}: raysubset {shlex.join(words)}"


def with_options(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the words with these options, each in place of the page's own where it has one."""
    words = [*words]
    for option in options:
        name, *value = option.split()
        if name in words:
            at = words.index(name)
            words[at : at + 1 + len(value)] = [name, *value]
        else:
            words += [name, *value]
    return words


def follow(called: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Follow a command of ours to where its work would begin; every option has to be accepted."""
    name, words = called
    if name == "raysubset":
        _follow_cli(words, monkeypatch, place)
    elif (job := name.removeprefix("jobs.")) in _OF_JOB:
        _follow_cli([_OF_JOB[job], *words], monkeypatch, place)
    else:
        _parse_job(name, words, monkeypatch)


def _follow_cli(words: list[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    from raysubset.cli import call, long_forms
    from raysubset.cli.app import app

    command = words[0]
    if "--help" in words:
        assert call(words)[0] == 0
        return
    app.parse_args(long_forms(words), exit_on_error=False, print_error=False)
    if command not in _STARTS:  # it asks a folder: that it takes these words is all there is
        return
    words = [_local(word, place) for word in words if word != "--resume"]
    of_tune = {"--early-stop", "--search"} & set(words)  # Ray's, and Ray starts later than here
    if command != "doctor" and not of_tune and "--local" not in words:
        words.append("--local")
    with monkeypatch.context() as patched:
        patched.setattr("raysubset.selecting.point.stored_values", lambda _: {})
        for start in _STARTS[command]:
            patched.setattr(start, _began)
        with pytest.raises(Began):
            code, _ = call(words)
            pytest.fail(f"exit code {code} before any work: raysubset {shlex.join(words)}")


def _parse_job(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the words to the job's own parser."""
    if module == "jobs.cost":
        assert not words
        return
    with monkeypatch.context() as patched:
        parse = argparse.ArgumentParser.parse_args

        def parse_and_stop(parser: argparse.ArgumentParser, *args: Any, **more: Any) -> NoReturn:
            parse(parser, *args, **more)
            raise Began

        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patched.setattr("sys.argv", [module, *words])
        main = importlib.import_module(module).main
        with pytest.raises(Began):
            main(words) if main.__code__.co_argcount else main()


def _began(*_: object, **__: object) -> NoReturn:
    raise Began


def _local(word: str, place: Path) -> str:
    """Return the word; a store's address, or a folder of another machine, is one of this test's."""
    for start in ("s3://", "gs://", "abfs://", "/shared/"):
        if word.startswith(start):
            return str(place / word.removeprefix(start))
    return word
