from __future__ import annotations

import pytest

from raysubset.report import wording


@pytest.mark.parametrize(
    ("share", "said"), [(0.6538, "65 %"), (0.9999, "99 %"), (1.0, "100 %"), (-0.2, "-20 %")]
)
def test_a_lower_bound_is_never_rounded_up(share: float, said: str):
    assert wording.at_least(share) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.254, "0.25 s"), (42, "42.0 s"), (192.4, "3 min 12 s"), (7500, "2 h 5 min")],
)
def test_durations_read_as_people_say_them(seconds: float, said: str):
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(("fraction", "said"), [(0.1, "10 %"), (0.005, "0.5 %"), (1, "100 %")])
def test_a_fraction_reads_as_it_was_asked_for(fraction: float, said: str):
    assert wording.percent_asked(fraction) == said


def test_one_thing_has_no_plural():
    assert wording.counted(1, "id") == "1 id"
    assert wording.counted(7740, "id") == "7,740 ids"


def test_untrusted_text_stays_on_one_line_and_short():
    text = wording.printable("a\nb\x1b" + "c" * 500, 20)
    assert len(text) == 20
    assert text.isprintable()


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_there_is_a_dash(value: float | None):
    said = (wording.count, wording.decimal, wording.percent, wording.duration, wording.at_least)
    assert {function(value) for function in said} == {"-"}
    assert wording.significant(value) == "-"
