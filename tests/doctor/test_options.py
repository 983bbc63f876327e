"""Options of the doctor that can mean nothing are refused before it looks at anything."""

from __future__ import annotations

import pytest

from raysubset.cli import call


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
