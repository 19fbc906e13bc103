"""Who comes in, tried as somebody would who may not."""

from __future__ import annotations

import re
from pathlib import Path
from runpy import run_path

import pytest
from web.visitor import HASH, PASSWORD, USERS, Visitor, user

from frappe_jobs.web.access import parse
from frappe_jobs.web.app import make_app
from frappe_jobs.web.door import COOKIE
from frappe_jobs.web.guard import LOOPBACK
from frappe_jobs.web.passwords import fits, hashed, is_hash
from frappe_jobs.web.sessions import TRIES

ROOT = Path(__file__).parents[2]
PAGES = ("/", "/jobs", "/job?site=site1&id=x", "/audit")


@pytest.fixture
def stranger(guarded):
    return Visitor(make_app(guarded.use(), LOOPBACK))


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_sees_the_login_and_nothing_else(stranger, page):
    found = stranger.get(page)
    assert found.status_code == 303 and found.headers["location"].startswith("/login?next=")
    assert stranger.get("/live", params={"page": page.partition("?")[0]}).status_code == 204


def test_a_login_opens_the_page_that_was_asked_for(stranger):
    token = stranger.token("/login?next=/jobs?queue=long")
    form = {"name": "ria", "password": PASSWORD, "token": token, "next": "/jobs?queue=long"}
    found = stranger.post("/login", data=form)
    assert (found.status_code, found.headers["location"]) == (303, "/jobs?queue=long")
    assert "<b>ria</b>" in stranger.text("/jobs")


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\r\nb"],
)
def test_a_login_leads_nowhere_else(stranger, target):
    token = stranger.token("/login")
    form = {"name": "ria", "password": PASSWORD, "token": token, "next": target}
    assert stranger.post("/login", data=form).headers["location"] == "/"


def test_the_cookie_is_out_of_the_reach_of_scripts_and_of_other_sites(stranger):
    visitor = stranger
    assert visitor.log_in("ria").status_code == 303
    [cookie] = [one for one in visitor.cookies.jar if one.name == COOKIE]
    assert {*cookie._rest} >= {"HttpOnly", "SameSite"} and cookie._rest["SameSite"] == "lax"
    assert len(cookie.value) > 40


def test_over_tls_the_cookie_goes_by_that_alone(make_bench):
    bench = make_bench(frappe_jobs_web={"users": USERS, "https": True})
    visitor = Visitor(make_app(bench.use(), LOOPBACK))
    visitor.base_url = "https://127.0.0.1:8600"
    found = visitor.log_in("ria")
    assert f"__Host-{COOKIE}=" in (said := found.headers["set-cookie"]) and "Secure" in said


@pytest.mark.parametrize(
    "password", ["", "wrong", HASH, PASSWORD + " ", PASSWORD.upper(), "\0", "x" * 9999]
)
def test_a_wrong_password_is_refused(stranger, password):
    assert stranger.log_in("anna", password).status_code == 403
    assert stranger.get("/").status_code == 303


def test_an_unknown_name_is_answered_as_a_wrong_password_is(stranger):
    answers = [stranger.log_in(name, "wrong") for name in ("anna", "nobody", "")]
    texts = {answer.text.replace(answer.text.partition('name="token" value="')[2][:64], "")
             for answer in answers}  # fmt: skip
    assert {answer.status_code for answer in answers} == {403} and len(texts) == 1


def test_guessing_is_stopped_also_with_the_right_password(stranger):
    for _ in range(TRIES["address and name"]):
        assert stranger.log_in("anna", "wrong").status_code == 403
    found = stranger.log_in("anna")
    assert found.status_code == 429 and int(found.headers["retry-after"]) > 800
    assert stranger.log_in("otto").status_code == 303  # others from there still can


def test_guessing_for_many_names_is_stopped_by_the_address(stranger):
    codes = [stranger.log_in(f"name {number}", "wrong").status_code for number in range(22)]
    assert codes[: TRIES["address"]] == [403] * TRIES["address"] and codes[-1] == 429


def test_a_login_from_another_sites_form_is_refused(stranger):
    token = stranger.token("/login")
    form = {"name": "ria", "password": PASSWORD, "token": token}
    for headers in (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
    ):
        assert stranger.post("/login", data=form, headers=headers).status_code == 403
    fresh = Visitor(stranger.app)  # with somebody else's token, without the cookie beside it
    assert fresh.post("/login", data=form).status_code == 403


@pytest.mark.parametrize("token", ["", "x" * 43, "../session", "*"])
def test_a_cookie_that_somebody_made_up_opens_nothing(stranger, token):
    stranger.cookies.set(COOKIE, token)
    assert stranger.get("/").status_code == 303


def test_a_logout_ends_the_session_and_not_only_the_cookie(stranger):
    visitor = stranger
    assert visitor.log_in("ria").status_code == 303
    token = visitor.cookies[COOKIE]
    assert visitor.submit("/logout").status_code == 303
    visitor.cookies.set(COOKIE, token)
    assert visitor.get("/").status_code == 303


def test_who_is_taken_out_or_has_another_password_is_out_at_once(guarded, known):
    ria, otto = known("ria"), known("otto")
    users = {name: one for name, one in USERS.items() if name != "ria"}
    users["otto"] = users["otto"] | {"password": hashed("another one")}
    guarded.write("common_site_config.json", guarded.config | {"frappe_jobs_web": {"users": users}})
    assert ria.get("/").status_code == 303 and otto.get("/").status_code == 303


class TestBehindAProxy:
    @pytest.fixture
    def app(self, make_bench):
        access = {
            "users": {"anna": {"role": "admin"}, "ria": user()},
            "trusted_header": "X-Remote-User", "trusted_proxies": ["10.0.0.9"],
        }  # fmt: skip
        return make_app(make_bench(frappe_jobs_web=access).use(), LOOPBACK)

    def test_its_header_says_who_it_is(self, app):
        proxy = Visitor(app, client=("10.0.0.9", 1), headers={"x-remote-user": "anna"})
        assert "<b>anna</b>" in proxy.text("/")

    def test_nobody_else_can_say_so(self, app):
        headers = {
            "x-remote-user": "anna",
            "x-forwarded-for": "10.0.0.9",
            "forwarded": "for=10.0.0.9",
        }
        forger = Visitor(app, client=("10.0.0.8", 1), headers=headers)
        assert forger.get("/").status_code == 303

    def test_who_is_not_named_in_the_file_stays_out(self, app):
        proxy = Visitor(app, client=("10.0.0.9", 1), headers={"x-remote-user": "eve"})
        assert proxy.get("/").status_code == 303

    def test_who_has_no_password_cannot_log_in_with_one(self, app):
        visitor = Visitor(app, client=("10.0.0.8", 1))
        assert visitor.log_in("anna", "").status_code == 403
        assert visitor.log_in("anna", "None").status_code == 403


def test_a_password_is_known_by_its_hash_alone():
    made = hashed("ä pass\ud800")
    assert is_hash(made) and "pass" not in made and made != hashed("ä pass\ud800")
    assert fits("ä pass\ud800", made) and not fits("a pass", made) and not fits("", None)


@pytest.mark.parametrize(
    "wrong", [None, "", "scrypt$1$1$1$AA==$AA==", "plain", HASH[:-4], HASH + "="]
)
def test_what_is_no_hash_is_none(wrong):
    assert not is_hash(wrong)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"user": {}}, "has no key 'user'"),
        ({"users": []}, "'users' must be"),
        ({"users": {"anna": {"password": "plain text"}}}, "frappe-jobs web-password"),
        ({"users": {"anna": {"password": HASH, "role": "root"}}}, "read-only, operator, admin"),
        ({"users": {"anna": {"password": HASH, "sites": "site1"}}}, "list of names"),
        ({"users": {"anna": {}}}, "has no 'password'"),
        ({"trusted_header": "X"}, "go together"),
        ({"trusted_header": "X", "trusted_proxies": ["everybody"]}, "everybody"),
        ({"session_hours": 0}, "1 to 720"),
        ({"https": "yes"}, "true or false"),
    ],
)
def test_a_wrong_configuration_says_what_is_legal_and_no_secret(given, said):
    with pytest.raises(ValueError, match=said) as error:
        parse(given)
    assert HASH not in str(error.value) and "plain text" not in str(error.value)


def test_a_configuration_that_is_wrong_opens_nothing(make_bench):
    bench = make_bench(frappe_jobs_web={"users": {"anna": {"password": "plain"}}})
    found = Visitor(make_app(bench.use(), LOOPBACK)).get("/")
    assert found.status_code == 400 and "frappe_jobs_web" in found.text
    done = bench.run("web", "--port", "0")
    assert done.returncode == 1 and "frappe_jobs_web" in done.stderr


def test_the_hashes_are_not_among_the_settings_that_are_listed(guarded):
    done = guarded.run("settings")
    assert "frappe_jobs_web" in done.stdout and "scrypt" not in done.stdout


def test_the_command_makes_a_hash(bench):
    done = bench.run("web-password", input="a long one\na long one\n")
    assert fits("a long one", done.stdout.splitlines()[-1])


def test_there_are_no_metrics_until_they_are_configured(stranger):
    assert stranger.get("/metrics").status_code == 404
    assert stranger.get("/metrics", auth=("ria", PASSWORD)).status_code == 404


def test_the_metrics_are_for_those_who_see_all_sites(make_bench):
    bench = make_bench(frappe_jobs_web={"users": USERS}, frappe_jobs_metrics=True)
    stranger = Visitor(make_app(bench.use(), LOOPBACK))
    found = stranger.get("/metrics")
    assert found.status_code == 401 and found.headers["www-authenticate"].startswith("Basic")
    assert "frappe_jobs_waiting" not in found.text
    found = stranger.get("/metrics", auth=("ria", PASSWORD))
    assert found.status_code == 200 and 'frappe_jobs_waiting{queue="long"} 0.0' in found.text
    assert stranger.get("/").status_code == 303  # that opens no page, and no session
    assert stranger.get("/metrics").status_code == 401
    assert stranger.get("/metrics", auth=("reader", PASSWORD)).status_code == 404
    for header in (
        "Basic",
        "Basic x",
        "Basic cmlh",
        "Basic //4=",
        "Bearer x",
        f"Basic {'x' * 999}",
    ):
        found = stranger.get("/metrics", headers={"authorization": header})
        assert found.status_code == 401
    assert stranger.post("/metrics").status_code == 405
    for _ in range(TRIES["address and name"]):
        assert stranger.get("/metrics", auth=("anna", "wrong")).status_code == 401
    found = stranger.get("/metrics", auth=("anna", PASSWORD))
    assert found.status_code == 429 and int(found.headers["retry-after"]) > 800
    assert stranger.log_in("ria").status_code == 303
    assert stranger.get("/metrics").status_code == 200


def test_the_demos_pages_are_for_whoever_has_the_password_that_it_prints(
    bench, visit_of, tmp_path, capsys
):
    demo = run_path(str(ROOT / "examples" / "shop" / "demo_pages.py"))
    pages, log = demo["Pages"](bench.sites), tmp_path / "pages.log"
    pages.configure()
    bench.use()
    log.write_text("The pages are at http://127.0.0.1:8600/ (for those who log in).\nready\n")
    pages.open(lambda: log, "site1")
    found = re.search(r"(http://127\.0\.0\.1:8600/)\s+log in as (\w+), with the password (\S+)",
                      capsys.readouterr().out)  # fmt: skip
    assert found and found[3] not in (bench.sites / "common_site_config.json").read_text()
    visitor = visit_of(bench)
    assert visitor.get("/").status_code == 303
    assert visitor.log_in(found[2], "demo").status_code == 403
    assert visitor.log_in(found[2], found[3]).status_code == 303
    assert "shop.tasks.rush" in visitor.text("/schedule?site=site1")
