"""Write pictures/order.svg, where a job may wait before a worker takes it: ``make reference``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

PATH = Path(__file__).parent / "pictures/order.svg"
WIDTH, HEIGHT = 860, 436

#: Of each class its colour in a light and in a dark room.
COLOURS = {
    "paper": ("#ffffff", "#0d1117"),
    "box": ("#f6f8fa", "#161b22"),
    "line": ("#57606a", "#8b949e"),
    "text": ("#1f2328", "#e6edf3"),
    "small": ("#57606a", "#9198a1"),
    "job": ("#0969da", "#4493f8"),
    "front": ("#bc4c00", "#f0883e"),
    "still": ("#afb8c1", "#484f58"),
}
WORDS = (
    "Where a job waits. enqueue puts it into its queue. One for later, or that is tried again, "
    "waits for its time first, and then goes there too. In the queue each site has a line of "
    "its own, and the sites are served in turn; of each the at-front jobs go first. A paused "
    "site is left out. The job whose turn it is goes to a worker; if its limit has no room, it "
    "waits beside the queue, and goes before the others once there is room."
)


def picture() -> str:
    """The picture as SVG; its colours follow the reader's browser."""
    return "\n".join([*_head(), *_ways(), *_places(), *_jobs(), "</svg>", ""])


def _head() -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(WORDS)}" font-family="system-ui, sans-serif" font-size="14">'
    )
    yield f"<style>{_colours(0)}"
    yield f"@media (prefers-color-scheme: dark) {{ {_colours(1)} }}"
    yield ".way { fill: none; stroke-width: 1.5 } .dashed { stroke-dasharray: 5 4 }</style>"
    yield (
        '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto">'
        '<path d="M0 0.5L8.5 4.5L0 8.5z" class="line"/></marker></defs>'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" class="paper"/>'


def _colours(place: int) -> str:
    rules = [f".{name} {{ fill: {both[place]} }}" for name, both in COLOURS.items()]
    stroke = COLOURS["line"][place]
    return " ".join([*rules, f".way, .edge {{ stroke: {stroke} }}"])


def _text(x: float, y: float, words: str, kind: str = "text", anchor: str = "start") -> str:
    size = ' font-size="12"' if kind == "small" else ""
    return (
        f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}"{size}>{escape(words)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, more: str = "") -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="box edge {more}"/>'
    )


def _way(path: str, more: str = "") -> str:
    return f'<path d="{path}" class="way {more}" marker-end="url(#tip)"/>'


def _squares(x: float, y: float, count: int, kind: str = "job") -> Iterator[str]:
    for number in range(count):
        yield f'<rect x="{x - 20 * number}" y="{y}" width="14" height="14" rx="2" class="{kind}"/>'


def _places() -> Iterator[str]:
    """What a job waits in, and what it is called."""
    yield _box(20, 184, 128, 44)
    yield _text(84, 211, "enqueue", anchor="middle")
    yield _box(20, 34, 128, 62)
    yield _text(84, 60, "enqueue_in, _at", anchor="middle")
    yield _text(84, 80, "a retry", anchor="middle")
    yield _box(226, 34, 322, 62, "dashed")
    yield _text(240, 58, "delayed: waits for its time")
    yield _text(240, 80, "costs nothing until then; can be moved", "small")
    yield _box(226, 136, 322, 156)
    yield _text(240, 158, "the queue: its sites take turns")
    for row, (site, words) in enumerate(
        (("site1", "a flood"), ("site2", "not behind it"), ("site3", "paused: keeps its place"))
    ):
        y = 190 + 38 * row
        yield _text(240, y + 3, site)
        yield _text(240, y + 18, words, "small")
    yield _box(226, 344, 322, 62, "dashed")
    yield _text(240, 368, "limited: waits for room")
    yield _text(240, 390, "and holds up nobody meanwhile", "small")
    yield _box(700, 174, 136, 64)
    yield _text(768, 202, "a worker", anchor="middle")
    yield _text(768, 222, "of ours", "small", "middle")


def _jobs() -> Iterator[str]:
    yield from _squares(516, 50, 2)
    yield from _squares(516, 184, 1, "front")
    yield from _squares(496, 184, 7)
    yield from _squares(516, 222, 2)
    yield from _squares(516, 260, 3, "still")
    yield '<path d="M536 258v18M541 258v18" class="edge" stroke-width="3"/>'
    yield from _squares(516, 360, 3)
    yield from _squares(44, 352, 1, "front")
    yield _text(66, 364, "at front", "small")
    yield from _squares(44, 376, 1)
    yield _text(66, 388, "a job", "small")


def _ways() -> Iterator[str]:
    """How a job goes from one place to the next."""
    yield _way("M148 206H222")
    yield _way("M148 65H222")
    yield _way("M387 96V132")
    yield _text(396, 119, "its time has come", "small")
    yield _way("M548 206H696")
    yield _text(594, 196, "in turn", "small", "middle")
    yield _way("M640 206V375H552")
    yield _text(648, 320, "its limit has no room", "small")
    yield _way("M387 344V296")
    yield _text(396, 325, "there is room: before the others", "small")


if __name__ == "__main__":
    PATH.write_text(picture(), encoding="utf-8")
