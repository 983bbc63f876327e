"""What the doctor refuses before it looks, and how it ends where something goes wrong in it."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import torch

from raysubset.cli import call, main
from raysubset.doctor import examination
from raysubset.doctor.within import Late, within


@pytest.mark.parametrize(
    "words",
    [
        *("--patience=0", "--patience=nan", "--patience=inf", "--patience=-1"),
        *("--price-per-hour=nan", "--price-per-hour=inf", "--price-per-hour=-1"),
    ],
)
def test_a_number_that_can_mean_nothing_is_refused(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("raysubset.cli.doctor.diagnose", lambda *_, **__: pytest.fail("it looked"))
    assert call(["doctor", words]) == (2, None)
    assert words.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nMore."), "failed"),
        (MemoryError(), "failed"),
        (ValueError("of a person's model"), "skipped"),
    ],
)
def test_whatever_a_rehearsal_raises_becomes_a_finding(error: Exception, status: str):
    def rehearse() -> Any:
        raise error

    (found,) = examination._or_skipped(("time",), 30.0, rehearse)  # pyright: ignore[reportPrivateUsage]
    assert (found.name, found.status) == ("time", status)
    assert str(error).partition("\n")[0] in found.found


def test_a_call_that_hangs_does_not_change_how_the_doctor_ends(monkeypatch: pytest.MonkeyPatch):
    def leave(code: int) -> None:
        raise SystemExit(f"left with {code}")

    monkeypatch.setattr(os, "_exit", leave)
    hangs = threading.Event()
    with pytest.raises(Late):
        within(0.01, hangs.wait, "a test")
    with pytest.raises(SystemExit, match="left with 2"):
        main(["doctor", "--patience=0"])
    hangs.set()
