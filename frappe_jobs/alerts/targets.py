"""Where an alert goes: a webhook, e-mail, a method of an app; none of them holds anybody up."""

from __future__ import annotations

import json
import smtplib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID, uuid5

from frappe_jobs.errors import BrokerError, ConfigError, FrappeJobsError
from frappe_jobs.host.port import ADMINISTRATOR
from frappe_jobs.message import Message, Sending
from frappe_jobs.runtime import Runtime

#: Seconds that a target has for an answer, and for all of it.
ANSWER, IN_ALL = 10.0, 20.0
LEGAL = {"webhook", "email", "method", "site", "failures_in_a_row"}
EMAIL = {"to", "from", "server"}


@dataclass(frozen=True)
class Notice:
    """What is said of an incident: that it has begun, or that it is over."""

    #: The same for both, so that whoever hears it twice can tell.
    incident: str
    rule: str
    #: "begins" or "over".
    what: str
    text: str
    at: float


class NotDelivered(FrappeJobsError):
    """A target did not take an alert; it is tried again."""


#: In which the ids of jobs that say an alert are made.
JOBS = UUID("6c5d2b1e-2f0b-4a58-9d6e-2a1b7f2f2c11")

#: What delivers to a target of that name; raises NotDelivered.
Deliver = Callable[[Notice], None]


def targets_of(here: Runtime) -> dict[str, Deliver]:
    """Each target of 'frappe_jobs_alerts' by name; raises ConfigError with what is legal."""
    config = here.settings.alerts or {}
    if unknown := sorted(config.keys() - LEGAL):
        raise _wrong(f"has the unknown key {unknown[0]!r}; legal are {', '.join(sorted(LEGAL))}")
    found: dict[str, Deliver] = {}
    if url := config.get("webhook"):
        found["webhook"] = _webhook(url)
    if email := config.get("email"):
        found["email"] = _email(here.settings.bench_id, email)
    if method := config.get("method"):
        found["method"] = _method(here, method, config.get("site") or here.settings.default_site)
    if not found:
        raise _wrong("names no target: 'webhook', 'email' or 'method'")
    return found


def in_a_row(here: Runtime) -> int:
    """So many failures of a method without a success are an incident; raises ConfigError."""
    many = (here.settings.alerts or {}).get("failures_in_a_row", 5)
    if isinstance(many, bool) or not isinstance(many, int) or many < 1:
        raise _wrong(f"'failures_in_a_row' must be a whole number, 1 or more; not {many!r}")
    return many


def check_setting(here: Runtime) -> list[str]:
    """The names of the targets; raises ConfigError with what is legal, and without any secret."""
    in_a_row(here)
    return [*targets_of(here)]


def _key(notice: Notice) -> str:
    """The same whenever it is said: who gets it twice can drop the second."""
    return f"{notice.incident}.{notice.what}"


def _parts_of(url: object, schemes: Collection[str]) -> SplitResult | None:
    """The parts of a URL of one of these schemes with a host; None for anything else."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        is_right = parts and parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # a port or an address that is none
        return None
    return parts if is_right else None


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"'frappe_jobs_alerts' in common_site_config.json {what}.")


def in_time(deliver: Deliver, notice: Notice) -> None:
    """Deliver in a thread that is left alone when it takes too long; raises NotDelivered."""
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            deliver(notice)
        except Exception as error:  # whatever a server does
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True, name="alert")
    thread.start()
    thread.join(IN_ALL)
    if thread.is_alive():
        raise NotDelivered(f"it gave no answer within {IN_ALL:.0f} s")
    if errors:
        raise NotDelivered(f"{type(errors[0]).__name__}: {errors[0]}"[:300])


def _webhook(url: object) -> Deliver:
    """In Slack's form, which Mattermost, Rocket.Chat and Discord (with /slack) take as well."""
    if _parts_of(url, ("http", "https")) is None:
        raise _wrong("'webhook' must be the URL of a webhook, http:// or https://")

    def deliver(notice: Notice) -> None:
        body = {"text": notice.text, "incident": notice.incident, "what": notice.what}
        headers = {"Content-Type": "application/json", "Idempotency-Key": _key(notice)}
        request = urllib.request.Request(str(url), json.dumps(body).encode(), headers)
        try:
            urllib.request.build_opener(_NoRedirect).open(request, timeout=ANSWER).close()
        except urllib.error.HTTPError as error:  # its text may hold the URL, which is secret
            error.close()
            raise NotDelivered(f"the webhook says {error.code}") from None

    return deliver


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that points elsewhere is refused: the target is the one that was written down."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _email(bench: str, config: object) -> Deliver:
    if not isinstance(config, Mapping) or not isinstance(config.get("to"), (str, list)):
        raise _wrong("'email' must be an object with 'to', and perhaps 'from' and 'server'")
    if unknown := sorted(config.keys() - EMAIL):
        raise _wrong(f"'email' has the unknown key {unknown[0]!r}")
    to = [config["to"]] if isinstance(config["to"], str) else config["to"]
    if not to or not all(isinstance(one, str) and one.strip() for one in to):
        raise _wrong("'to' of 'email' must be an address, or a list of addresses")
    server = _parts_of(config.get("server") or "smtp://localhost", ("smtp", "smtps"))
    if server is None:
        raise _wrong("'server' of 'email' must be smtp://… or smtps://…")

    def deliver(notice: Notice) -> None:
        mail = EmailMessage()
        mail["From"] = str(config.get("from") or to[0])
        mail["To"] = ", ".join(map(str, to))
        mail["Message-ID"] = f"<{_key(notice)}@frappe-jobs.invalid>"
        mail["Subject"] = f"[{bench}] " + " ".join(notice.text.split())[:150]
        mail.set_content(f"{notice.text}\n\nIncident {notice.incident}\n")
        kind = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
        with kind(str(server.hostname), server.port or 0, timeout=ANSWER) as smtp:
            if server.scheme == "smtp" and server.username:
                smtp.starttls()  # a password does not go over an open line
            if server.username:
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(mail)

    return deliver


def _method(here: Runtime, method: object, site: object) -> Deliver:
    if not isinstance(method, str) or "." not in method:
        raise _wrong("'method' must be the dotted path of a method of an app")
    if not isinstance(site, str):
        raise _wrong("has a 'method', which runs on a site: name it with 'site', or 'default_site'")

    def deliver(notice: Notice) -> None:
        queue = here.settings.queues["default"]
        arguments = {"incident": notice.incident, "rule": notice.rule, "what": notice.what,
                     "text": notice.text}  # fmt: skip
        # the same id whenever it is said: a job that was sent is not sent once more
        message = Message(
            id=str(uuid5(JOBS, _key(notice))), job_id=f"alert::{_key(notice)}", site=site,
            user=ADMINISTRATOR, method=method, name=method, queue=queue.name,
            timeout=queue.timeout, enqueued_at=time.time(), arguments=arguments, at_front=True,
        )  # fmt: skip
        try:
            here.dispatcher.dispatch([Sending(message, claim=True)])
        except BrokerError as error:
            raise NotDelivered(str(error)) from None

    return deliver
