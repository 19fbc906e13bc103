"""Pages that change while they are open: server-sent events, rendered once for all who look."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from hashlib import blake2b

#: Seconds after which a stream without news says that it is alive.
SILENCE = 15.0

#: All that are open rest together for so many times as long as a look at each of them takes.
REST = 24

#: A comment, which keeps a connection alive.
NOTHING_NEW = b": nothing new\n\n"

#: What changes by itself: times that say how long ago.
AGES = re.compile(r"<time\b.*?</time>", re.DOTALL)

#: The newest picture of a page, or why there is none: the event's name and what it says.
News = tuple[str, str]


@dataclass
class Channel:
    """One page as those see it who see the same."""

    look: Callable[[], Awaitable[News]]
    pace: float
    #: Gives the seconds to rest before the next look.
    rest: Callable[[], float]
    watchers: int = 0
    #: Seconds that the last look took.
    took: float = 0.0
    number: int = 0
    #: The newest picture as it travels: made once, for all.
    event: bytes = b""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Look again and again; whoever watches hears of what is new."""
        known = b""
        while True:
            begun = time.monotonic()
            news = await self.look()
            # What is away may have kept it waiting; that costs nobody anything.
            self.took = time.monotonic() - begun if news[0] == "picture" else 0.0
            said = digest(news)
            if said != known:
                known, self.event, self.number = said, event_text(news), self.number + 1
                self.changed.set()
                self.changed = asyncio.Event()
            await pause(max(self.pace, self.rest()))


class Hub:
    """All pages that are open."""

    def __init__(self) -> None:
        self._channels: dict[Hashable, Channel] = {}

    def rest(self) -> float:
        """Seconds between two looks at a page: the more, the more pages are open that take long."""
        return REST * sum(channel.took for channel in self._channels.values())

    @property
    def watchers(self) -> int:
        return sum(channel.watchers for channel in self._channels.values())

    async def follow(
        self,
        key: Hashable,
        look: Callable[[], Awaitable[News]],
        pace: float,
        is_allowed: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[bytes]:
        """The news of that page, as they travel: the newest at once.

        Where there were none for a while, what keeps the connection alive; "over" at the end, once
        who looks may no longer do so.
        """
        channel = self._channels.setdefault(key, Channel(look, pace, self.rest))
        channel.watchers += 1
        channel.task = channel.task or asyncio.create_task(channel.run())
        try:
            seen = 0
            while await is_allowed():
                changed = channel.changed
                if channel.number != seen:
                    seen = channel.number
                    yield channel.event
                    continue
                yield NOTHING_NEW
                await waited(changed, SILENCE)
            yield event_text(("over", ""))
        finally:
            channel.watchers -= 1
            if not channel.watchers:
                channel.task.cancel()
                self._channels.pop(key, None)


async def pause(seconds: float) -> None:
    await waited(asyncio.Event(), seconds)


async def waited(event: asyncio.Event, seconds: float) -> bool:
    """Wait for it, that long at most; whether it came."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def digest(news: News) -> bytes:
    """Differs where anything but ages does; a picture may be large."""
    said = news[0] + AGES.sub("", news[1])
    return blake2b(said.encode(errors="surrogatepass"), digest_size=16).digest()


def event_text(news: News) -> bytes:
    """As it travels."""
    name, text = news
    return f"event: {name}\ndata: {json.dumps(text)}\n\n".encode()
