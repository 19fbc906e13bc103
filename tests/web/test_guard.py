"""From where the pages can be reached, and what a browser may do with them."""

from __future__ import annotations

import pytest
from web.visitor import HASH

from frappe_jobs.errors import ConfigError
from frappe_jobs.web.access import Access, parse
from frappe_jobs.web.serve import hosts_of


@pytest.mark.parametrize("host", ["127.0.0.1:8600", "localhost", "[::1]:80", "LOCALHOST:8600"])
def test_this_machines_own_names_are_known(anybody, host):
    assert anybody.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:8600", "127.0.0.1@evil.example", "",
     "localhost/evil", "localhost:x", "[::1", "localhost.", "127.0.0.1 evil.example"],
)  # fmt: skip
def test_dns_rebinding_finds_nothing(anybody, host):
    """A page of evil.example whose name leads here speaks to us with its own name."""
    for address in ("/", "/jobs", "/live?page=/", "/static/pages.js"):
        found = anybody.get(address, headers={"host": host})
        assert found.status_code == 400 and "site1" not in found.text


def test_no_script_but_ours_may_run_and_nobody_may_frame_us(anybody):
    for address in ("/", "/jobs", "/nope", "/static/pages.js"):
        headers = anybody.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert anybody.get("/").headers["cache-control"] == "no-store"


def test_a_page_has_no_inline_script_or_style_and_asks_nobody_outside(anybody):
    text = anybody.text("/")
    assert "<style" not in text and " style=" not in text and " onclick" not in text
    assert text.count("<script") == text.count('<script src="/static/')
    assert (
        "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    )


def test_where_nobody_logs_in_only_this_machine_is_served():
    for host in ("0.0.0.0", "192.168.1.5", "::", "jobs.example"):
        with pytest.raises(ConfigError, match="nobody logs in"):
            hosts_of(host, Access())
    assert "localhost" in hosts_of("127.0.0.1", Access())
    assert "127.0.0.2" in hosts_of("127.0.0.2", Access())


def test_for_every_address_the_names_must_be_given():
    access = parse({"users": {"anna": {"password": HASH}}})
    with pytest.raises(ConfigError, match="'hosts'"):
        hosts_of("0.0.0.0", access)
    assert "192.168.1.5" in hosts_of("192.168.1.5", access)


def test_the_command_says_so_in_one_line(bench):
    done = bench.run("web", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1 and "nobody logs in" in done.stderr
    assert "Traceback" not in done.stderr
