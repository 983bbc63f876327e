"""How long a rank is silent, whatever the mailbox remembers; no Ray."""

from __future__ import annotations

from raysubset.cluster.signs_of_life import SignsOfLife


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_f05_a_rank_that_the_mailbox_never_heard_of_is_silent_from_the_start():
    clock = Clock()
    signs = SignsOfLife(2, clock)
    clock.now += 7
    signs.hear({0: 1.0})
    assert signs.beyond(5) == {1: 7.0}
    assert signs.beyond(7) == {}
    signs.hear({})  # it restarted, and knows nobody
    assert signs.beyond(5) == {1: 7.0}


def test_f05_every_long_silence_is_told_and_who_answered_is_not_waited_for():
    clock = Clock()
    signs = SignsOfLife(3, clock)
    clock.now += 20
    signs.hear({0: 9.0, 1: 15.0, 2: 12.0})
    assert signs.beyond(5) == {0: 9.0, 1: 15.0, 2: 12.0}
    assert signs.beyond(5, answered=[1]) == {2: 12.0, 0: 9.0}
    signs.forget()
    assert signs.beyond(0) == {}
