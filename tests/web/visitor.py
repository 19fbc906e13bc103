"""Somebody who looks at the pages of a real bench."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from frappe_jobs.testing import wait_until

ADDRESS = "http://127.0.0.1:8600"
#: One for all, and always the same, as it is in the names of tests.
PASSWORD = "a long one"
HASH = "scrypt$16384$8$5$oFcKuVpDqyksARp1SUHB4w==$I71FYqVvuuk2iLFdvCboh5qZepvN7kIA3p+HGSdfwtE="


def user(role: str = "read-only", sites: Any = "all") -> dict[str, Any]:
    return {"password": HASH, "role": role, "sites": sites}


#: Who looks, and at which sites.
USERS = {
    "anna": user("admin"), "otto": user("operator"), "ria": user(),
    "one": user("admin", ["site1"]), "reader": user("read-only", ["site1"]),
}  # fmt: skip


class Visitor(TestClient):
    """Somebody with a browser that keeps cookies."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, ADDRESS, follow_redirects=False, **options)

    def text(self, address: str) -> str:
        """What a page says, which there must be; where its names may break says nothing."""
        found = self.get(address)
        assert found.status_code == 200, (found.status_code, found.text)
        return found.text.replace("<wbr>", "")

    def token(self, address: str = "/") -> str:
        """What that page's forms bring back."""
        found = re.search(r'name="token"[^>]*(?:value|content)="(\w*)"', self.text(address))
        assert found
        return found[1]

    def log_in(self, name: str, password: str = PASSWORD) -> Any:
        form = {"name": name, "password": password, "token": self.token("/login")}
        return self.post("/login", data=form)

    def submit(self, address: str, **form: str) -> Any:
        """A form of one of the pages."""
        return self.post(address, data={"token": self.token(), **form})


@contextmanager
def served(bench: Any, *arguments: str) -> Iterator[str]:
    """The pages as a process of their own; gives their address."""
    with bench.process("web", "--port", "0", *arguments) as process:
        process.wait_ready()
        found = re.search(r"http://\S+?(?=/ )", process.log)
        assert found
        yield found[0]


def asked(visitor: Visitor, address: str, text: str) -> str:
    """The page once it says so: what takes a second comes later."""
    wait_until(lambda: text in visitor.text(address), 20)
    return visitor.text(address)
