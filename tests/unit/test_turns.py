"""Whose turn it is: one at a time, the smallest first, and nobody who left holds the others up."""

import asyncio
import threading

import pytest

from serve.api.preparation import SMALL, Lane, Preparation


async def until(reached) -> None:
    while not reached():
        await asyncio.sleep(0)


def test_the_smallest_goes_first_and_equals_in_their_order():
    async def order() -> list[str]:
        lane, done, begun, go_on = Lane(), [], threading.Event(), threading.Event()

        def first() -> None:
            begun.set()
            go_on.wait()

        running = asyncio.create_task(lane.run(1, first))
        await asyncio.to_thread(begun.wait)
        sizes = {"large": 9, "middle": 5, "middle too": 5, "small": 2}
        waiting = [asyncio.create_task(lane.run(size, lambda n=name: done.append(n))) for name, size in sizes.items()]
        await until(lambda: lane.waiting == len(sizes))
        go_on.set()
        await asyncio.gather(running, *waiting)
        assert lane.waiting == 0
        lane.close()
        return done

    assert asyncio.run(order()) == ["small", "middle", "middle too", "large"]


def test_a_small_body_does_not_wait_for_a_large_one():
    async def small_beside_large() -> str:
        preparation, begun, go_on = Preparation(), threading.Event(), threading.Event()

        def large() -> None:
            begun.set()
            go_on.wait()

        running = asyncio.create_task(preparation.run(SMALL + 1, large))
        await asyncio.to_thread(begun.wait)
        answer = await preparation.run(SMALL, lambda: "small")
        assert not running.done()
        go_on.set()
        await running
        preparation.close()
        return answer

    assert asyncio.run(small_beside_large()) == "small"


def test_who_leaves_gives_its_turn_on():
    async def leave() -> list[int]:
        lane, done, begun, go_on = Lane(), [], threading.Event(), threading.Event()

        def first() -> None:
            begun.set()
            go_on.wait()

        running = asyncio.create_task(lane.run(0, first))
        await asyncio.to_thread(begun.wait)
        waiting = [asyncio.create_task(lane.run(k, lambda k=k: done.append(k))) for k in range(1, 5)]
        await until(lambda: lane.waiting == len(waiting))
        waiting[0].cancel()
        running.cancel()  # its thread is still at work
        await asyncio.wait([running, waiting[0]])
        waiting[1].cancel()  # it was called already
        await asyncio.wait([waiting[1]])
        go_on.set()
        await asyncio.wait(waiting)
        assert await lane.run(9, lambda: "free") == "free"
        lane.close()
        return done

    assert asyncio.run(leave()) == [3, 4]


def test_what_fails_fails_for_its_own_and_gives_its_turn_on():
    async def fail() -> int:
        lane = Lane()
        with pytest.raises(ZeroDivisionError):
            await lane.run(1, lambda: 1 // 0)
        answer = await lane.run(1, lambda: 5)
        lane.close()
        return answer

    assert asyncio.run(fail()) == 5
