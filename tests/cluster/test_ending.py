"""A crew in which nothing answers is ended in time all the same; a clock that only waits move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from raysubset.cluster import crew as crew_module
from raysubset.cluster import long_fit as long_fit_module
from raysubset.cluster.crew import END_S, Crew
from raysubset.cluster.long_fit import LongFit

NOTICE_S = 30.0  # what schedulers give between SIGTERM and SIGKILL


class Standstill:
    """A Ray whose actors answer nothing, and the time that passes while one waits for them."""

    def __init__(self) -> None:
        self.now, self.killed = 1000.0, list[Any]()
        self.time = SimpleNamespace(monotonic=lambda: self.now, sleep=self.wait)

    def get(self, _: Any, timeout: float) -> None:
        self.wait(timeout)
        raise GetTimeoutError("nobody answers")

    def kill(self, actor: Any, no_restart: bool = True) -> None:
        self.killed.append(actor)

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class Actor:
    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *_: name)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Standstill:
    still = Standstill()
    for module in (crew_module, long_fit_module):
        monkeypatch.setattr(module, "ray", still)
    monkeypatch.setattr(crew_module, "time", still.time)
    return still


def crew_that_hangs(still: Standstill, controller: Any) -> Crew:
    fit: Any = object.__new__(LongFit)
    fit.controller, fit._mailbox, fit.error = controller, Actor(), None
    fit._thread = SimpleNamespace(is_alive=lambda: True, join=still.wait)
    crew: Any = object.__new__(Crew)
    crew._fit, crew.mailbox, crew._number, crew._ends_at = fit, Actor(), 0, None
    return crew


@pytest.mark.parametrize("controller", [Actor(), None], ids=["known", "unknown"])
@pytest.mark.parametrize("halts", [True, False])
def test_f08_a_stop_of_a_crew_that_hangs_ends_within_a_schedulers_notice(
    still: Standstill, controller: Any, halts: bool
):
    crew, began = crew_that_hangs(still, controller), still.now
    if halts:
        crew.halt()
        assert still.now < began + END_S, "there is time left to end it by force"
    crew.close()
    assert 0 < still.now - began <= END_S < NOTICE_S
    assert still.killed == ([] if controller is None else [controller])
