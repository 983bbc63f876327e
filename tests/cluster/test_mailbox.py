"""The mailbox alone: no Ray, one event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from raysubset.cluster.mailbox import Mailbox
from raysubset.cluster.orders import Count, Failed, Posted, Stop
from raysubset.errors import DataError

LONG_S, SHORT_S = 30.0, 0.02


def order(number: int) -> Posted:
    return Posted(number=number, order=Count(at=None, ranges=[]))


async def answered(box: Mailbox, number: int, attempt: str, *values: Any) -> None:
    for rank, value in enumerate(values):
        await box.answer(number, attempt, rank, value)


def test_answers_of_two_attempts_never_mix():
    async def story() -> None:
        box = Mailbox(2)
        await box.post(order(1))
        await box.answer(1, "first", 0, "a0")
        await box.answer(1, "second", 1, "b1")
        assert (await box.collect(1, SHORT_S)).answers is None
        await box.answer(1, "second", 0, "b0")
        got = await box.collect(1, LONG_S)
        assert (got.answers, got.attempt) == (["b0", "b1"], "second")

    asyncio.run(story())


def test_answers_come_in_the_order_of_ranks():
    async def story() -> None:
        box = Mailbox(3)
        for rank in (2, 0, 1):
            await box.answer(5, "x", rank, rank)
        assert (await box.collect(5, LONG_S)).answers == [0, 1, 2]

    asyncio.run(story())


def test_answers_to_an_older_order_are_forgotten_and_late_ones_do_no_harm():
    async def story() -> None:
        box = Mailbox(1)
        await box.post(order(1))
        await answered(box, 1, "x", "one")
        await box.post(order(2))
        assert (1, "x") not in box.answers
        await answered(box, 1, "x", "late")
        assert (await box.collect(2, SHORT_S)).answers is None
        await answered(box, 2, "x", "two")
        assert (await box.collect(2, LONG_S)).answers == ["two"]

    asyncio.run(story())


def test_an_order_posted_again_keeps_its_answers():
    async def story() -> None:
        box = Mailbox(1)
        await answered(box, 4, "x", "early")  # a rank's answer, before the driver posts again
        await box.post(order(4))
        await box.post(order(4))
        assert (await box.collect(4, LONG_S)).answers == ["early"]

    asyncio.run(story())


@pytest.mark.parametrize(
    "wait",
    [
        lambda box: box.next(0, 7, SHORT_S),
        lambda box: box.collect(7, SHORT_S),
        lambda box: box.was_saved(7, SHORT_S),
        lambda box: box.crew_ready(SHORT_S),
    ],
    ids=["next", "collect", "was_saved", "crew_ready"],
)
def test_every_wait_ends_at_its_deadline_though_there_is_other_news(wait: Any):
    async def story() -> None:
        box = Mailbox(2)
        await box.post(order(7))

        async def chatter() -> None:
            while True:
                await box.answer(3, "x", 0, "other")
                await asyncio.sleep(SHORT_S / 10)

        noise = asyncio.ensure_future(chatter())
        await asyncio.wait_for(wait(box), LONG_S)
        noise.cancel()

    asyncio.run(story())


def test_waits_end_with_the_news_they_wait_for():
    async def story() -> None:
        box = Mailbox(1)
        waits = asyncio.gather(
            box.next(0, 6, LONG_S),
            box.collect(7, LONG_S),
            box.was_saved(7, LONG_S),
            box.crew_ready(LONG_S),
        )
        await asyncio.sleep(0)
        start = time.monotonic()
        await box.hello("x", 0)
        await box.post(order(7))
        await box.answer(7, "x", 0, "done")
        await box.save(7, "files")
        (birth, posted), got, saved, ready = await asyncio.wait_for(waits, LONG_S)
        assert time.monotonic() - start < LONG_S
        assert (birth, posted) == (box.birth, order(7))
        assert got.answers == ["done"]
        assert saved[:2] == ("files", "x")
        assert ready == {"x": [0]}

    asyncio.run(story())


def test_what_was_saved_survives_the_orders_after_it():
    async def story() -> None:
        box = Mailbox(1)
        await box.save(1, "files of 1")
        for number in (2, 3):
            await box.post(order(number))
            await answered(box, number, "x", "done")
        assert (await box.was_saved(1, LONG_S))[0] == "files of 1"
        assert (await box.was_saved(2, SHORT_S))[0] is None

    asyncio.run(story())


def test_a_failure_of_one_rank_does_not_wait_for_the_others():
    async def story() -> None:
        box = Mailbox(2)
        await box.post(order(1))
        failed = Failed(error=DataError("rows 3, 4"))
        await box.answer(1, "x", 1, failed)
        got = await box.collect(1, LONG_S)
        assert (got.failed, got.answers) == (failed, None)

    asyncio.run(story())


def test_an_idle_rank_hears_of_every_order_once():
    async def story() -> None:
        box = Mailbox(1)
        assert (await box.next(0, -1, SHORT_S))[1] is None
        await box.post(order(1))
        assert (await box.next(0, -1, LONG_S))[1] == order(1)
        assert (await box.next(0, 1, SHORT_S))[1] is None

    asyncio.run(story())


def test_progress_is_rank_0s_and_starts_anew_with_an_order():
    async def story() -> None:
        box = Mailbox(2)
        await box.post(order(1))
        assert not await box.tick(0, 3, 9)
        assert not await box.tick(1, 8, 9)
        assert (await box.collect(1, 0)).progress == (3, 9)
        await box.post(order(1))
        assert (await box.collect(1, 0)).progress == (3, 9)
        await box.post(order(2))
        assert (await box.collect(2, 0)).progress == (0, 0)

    asyncio.run(story())


def test_the_next_order_ends_a_stop_unless_it_is_the_last():
    async def story() -> None:
        box = Mailbox(1)
        await box.stop()
        await box.post(order(1))
        assert not await box.tick(0, 1, 2)
        await box.post(Posted(number=2, order=Stop()))
        assert await box.tick(0, 1, 2)

    asyncio.run(story())


def test_a_tick_tells_a_rank_to_stop():
    async def story() -> None:
        box = Mailbox(1)
        await box.stop()
        assert await box.tick(0, 1, 2)

    asyncio.run(story())


def test_silence_is_counted_from_a_ranks_last_sign_of_life():
    async def story() -> None:
        box = Mailbox(2)
        await box.hello("x", 0)
        await box.hello("x", 1)
        await asyncio.sleep(SHORT_S)
        await box.tick(1, 1, 2)
        silent_s = (await box.collect(1, 0)).silent_s
        assert silent_s[0] >= SHORT_S > 0
        assert silent_s[1] <= silent_s[0]

    asyncio.run(story())


def test_a_mailbox_that_restarted_knows_no_order():
    async def story() -> None:
        box, again = Mailbox(1), Mailbox(1)
        await box.post(order(3))
        assert (await box.collect(3, 0)).known == 3
        assert (await again.collect(3, 0)).known == -1
        assert box.birth != again.birth

    asyncio.run(story())


def test_weights_sent_before_an_answer_reach_the_driver_once_and_end_the_wait_of_who_sent_them():
    async def story() -> None:
        box, flat = Mailbox(1), np.arange(3, dtype=np.uint8)
        await box.hello("x", 0)
        await box.post(order(4))
        await box.early(4, "x", flat)
        waits = asyncio.ensure_future(box.was_taken(4, LONG_S))
        assert (await box.collect(4, LONG_S)).early is flat
        assert not waits.done()
        await box.take(4)
        assert await waits == "taken"
        await box.hello("y", 0)  # the group died, and trains the last epoch again
        await box.early(4, "y", flat)
        assert await box.was_taken(4, LONG_S) == "taken"
        assert (await box.collect(4, SHORT_S)).early is None

    asyncio.run(story())


def test_weights_that_a_mailbox_lost_are_asked_for_again():
    async def story() -> None:
        box, flat = Mailbox(1), np.arange(3, dtype=np.uint8)
        await box.post(order(4))
        assert await box.was_taken(4, LONG_S) == "unknown"  # it restarted: `early` was told another
        await box.early(4, "x", flat)
        assert await box.was_taken(4, SHORT_S) == "waits"
        assert (await box.collect(4, LONG_S)).early is flat

    asyncio.run(story())


def test_weights_of_a_dead_group_or_of_an_older_order_are_nobodys():
    async def story() -> None:
        box, flat = Mailbox(1), np.arange(3, dtype=np.uint8)
        await box.post(order(4))
        await box.hello("x", 0)
        await box.early(4, "x", flat)
        await box.hello("y", 0)
        await box.early(4, "x", flat)
        assert (await box.collect(4, SHORT_S)).early is None
        await box.early(4, "y", flat)
        await box.post(order(5))
        assert await box.was_taken(4, LONG_S) == "over"
        assert (await box.collect(5, SHORT_S)).early is None
        await box.early(4, "y", flat)
        assert (await box.collect(5, SHORT_S)).early is None

    asyncio.run(story())
