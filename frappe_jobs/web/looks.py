"""How pages say times, lengths and values; what a job brings never becomes markup."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from frappe_jobs.doctor.text import duration, number
from frappe_jobs.rows.values import shown_value

HERE = Path(__file__).parent
STATIC = HERE / "static"


def moment(value: float | str | datetime) -> datetime:
    """A time as listings give it: seconds since 1970, or ISO 8601."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(value, timezone.utc)


def exact(value: float | str | datetime) -> str:
    """Such as ``Sun 29 Nov 2026, 09:03:11 UTC``."""
    at = moment(value)
    return f"{at:%a} {at.day} {at:%b %Y, %H:%M:%S %Z}".replace("UTC+00:00", "UTC").strip()


def clock(value: float | str | datetime) -> str:
    """A time in its own zone: ``Mon 30 Nov, 09:00``."""
    at = moment(value)
    return f"{at:%a} {at.day} {at:%b, %H:%M}" + (f":{at:%S}" if at.second else "")


def ago(value: float | str | datetime, now: float | None = None) -> str:
    """``14 min ago``, ``in 2 days``, ``just now``."""
    seconds = (time.time() if now is None else now) - moment(value).timestamp()
    if abs(seconds) < 1:
        return "just now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def time_tag(value: float | str | datetime | None) -> Markup:
    """A time as people read it, exact on hover; a script keeps it true while the page is open."""
    if value is None or value == "":
        return Markup('<span class="none">–</span>')
    made = Markup('<time datetime="{}" title="{}">{}</time>')
    return made.format(moment(value).isoformat(), exact(value), ago(value))


def since_tag(value: float | str | datetime) -> Markup:
    """The time that has passed since then: ``14 min``."""
    made = Markup('<time class="since" datetime="{}" title="since {}">{}</time>')
    seconds = max(0.0, time.time() - moment(value).timestamp())
    return made.format(moment(value).isoformat(), exact(value), length(seconds))


def length(seconds: float | None) -> str:
    """``under 1 ms``, ``420 ms``, ``3.2 s``, ``14 min``."""
    if seconds is None:
        return "–"
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def between(start: str | float | None, end: str | float | None) -> str:
    """The length from one time to another."""
    if start is None or end is None:
        return "–"
    return length(max(0.0, moment(end).timestamp() - moment(start).timestamp()))


def address(path: str, **query: Any) -> str:
    """The address with these parameters; those that are None or empty are left out."""
    pairs = [(key, value) for key, value in query.items() if value not in (None, "", [], ())]
    mark = "&" if "?" in path else "?"
    return f"{path}{mark}{urlencode(pairs, doseq=True)}" if pairs else path


def desk_of(config: Mapping[str, Any]) -> str | None:
    """The address of a site's Desk, if its configuration says where the site is (``host_name``)."""
    host = config.get("host_name")
    if not isinstance(host, str) or not host:
        return None
    found = urlsplit(host if "://" in host else f"https://{host}")
    if found.scheme not in ("http", "https") or not found.hostname or found.username:
        return None
    return f"{found.scheme}://{found.netloc}/app"


def breakable(text: str) -> Markup:
    """A name that breaks behind its dots and dashes, where it must."""
    parts = re.split(r"(?<=[._:/-])(?=\w)", text)
    return Markup("<wbr>").join(parts)


def unbroken(text: str) -> Markup:
    """A text in which no option of a command breaks behind its dashes."""
    words = re.split(r"(--[\w-]+)", text)
    whole = Markup('<span class="whole">{}</span>')
    return Markup("").join(whole.format(one) if at % 2 else one for at, one in enumerate(words))


def options(names: Iterable[str]) -> Markup:
    """Each as an option that a field proposes: made once, as a bench may have a thousand sites."""
    return _options(tuple(names))


@lru_cache(maxsize=8)
def _options(names: tuple[str, ...]) -> Markup:
    return Markup("").join(Markup('<option value="{}">').format(name) for name in names)


def make_environment() -> Environment:
    """Jinja, with everything escaped that a template does not call markup itself."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "time": time_tag, "since": since_tag, "exact": exact, "length_of": length, "json": pretty,
        "number": number, "clock": clock, "breakable": breakable, "unbroken": unbroken,
    }  # fmt: skip
    made.globals |= {
        "address": address, "between": between, "options": options, "version": static_version(),
    }  # fmt: skip
    return made


def pretty(value: Any) -> str:
    return json.dumps(json.loads(shown_value(value)), indent=2, ensure_ascii=False)


def static_version() -> str:
    """Changes with the static files, so that a browser keeps none for too long."""
    return str(max(int(path.stat().st_mtime) for path in STATIC.iterdir()))
