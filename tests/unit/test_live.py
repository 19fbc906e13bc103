"""Pages that are open: all together look at the bench for a small part of the time."""

from __future__ import annotations

import asyncio
import time

from frappe_jobs.web import live


async def looks_at(pages: int, seconds: float, for_so_long: float) -> int:
    """How often that many pages looked, each for so many seconds."""
    hub, looks = live.Hub(), 0

    async def look() -> live.News:
        nonlocal looks
        looks += 1
        await live.pause(seconds)
        return "picture", str(looks)

    async def is_allowed() -> bool:
        return True

    async def follow(page: int) -> None:
        async for _ in hub.follow(page, look, 0.01, is_allowed):
            pass

    open_ones = [asyncio.ensure_future(follow(page)) for page in range(pages)]
    await live.pause(for_so_long)
    for one in open_ones:
        one.cancel()
    await asyncio.gather(*open_ones, return_exceptions=True)
    assert hub.watchers == 0
    return looks


def test_the_more_that_take_long_the_less_often_each_is_looked_at(monkeypatch):
    monkeypatch.setattr(live, "REST", 4)
    one, many = (asyncio.run(looks_at(pages, 0.05, 2.0)) for pages in (1, 8))
    assert many / 8 < one / 2, (one, many)


def test_one_that_waited_for_what_is_away_looks_again_soon(monkeypatch):
    async def away() -> tuple[str, str]:
        await live.pause(0.2)
        return "away", "Redis is away"

    async def run() -> float:
        begun, looked = time.monotonic(), []

        async def look() -> live.News:
            looked.append(time.monotonic())
            return await away()

        channel = live.Channel(look, 0.05, lambda: live.REST * channel.took)
        task = asyncio.ensure_future(channel.run())
        while len(looked) < 3:
            await live.pause(0.01)
        task.cancel()
        return looked[2] - begun

    assert asyncio.run(run()) < 2
