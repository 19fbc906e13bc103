"""A server's URL means the same to all who connect, or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from ssl import CERT_NONE, CERT_REQUIRED
from typing import Any
from urllib.parse import quote

import pytest
import redis
from celery import Celery
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu.transport.redis import Channel

from frappe_jobs.celery.app import celery_settings
from frappe_jobs.config import Settings
from frappe_jobs.servers.unreached import unreached
from frappe_jobs.servers.url import ServerURL, read_url

SECRET = "s3cr3t"
#: What decides where a client of redis-py's connects, as whom, and how.
ASKED = (
    "host", "port", "db", "username", "password", "path", "socket_timeout",
    "socket_connect_timeout", "socket_keepalive", "health_check_interval", "retry_on_timeout",
    "client_name", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile",
    "ssl_keyfile",
)  # fmt: skip


class Unconnected(Channel):
    """kombu's channel, which would ask the server first."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        return redis.Redis(connection_pool=self.pool)

    @property
    def client(self) -> Any:
        return Answering()


class Answering:
    def ping(self) -> bool:
        return True


def app_of(url: str) -> Celery:
    app = Celery(set_as_current=False)
    app.config_from_object(celery_settings(Settings(Path("/bench/sites"), redis_queue=url)))
    return app


def kwargs(pool: Any) -> dict[str, Any]:
    """Arguments of the pool's connections: those that decide, and the kind of connection.

    A connection is made of them, though not connected: its class may not take them all.
    """
    pool.make_connection()
    found = {name: pool.connection_kwargs.get(name) or None for name in ASKED}
    kinds = (redis.SSLConnection, redis.UnixDomainSocketConnection, redis.Connection)
    found["kind"] = next(kind for kind in kinds if issubclass(pool.connection_class, kind))
    verified = pool.connection_kwargs.get("ssl_cert_reqs")
    found["ssl_cert_reqs"] = {CERT_REQUIRED: "required", CERT_NONE: "none"}.get(verified, verified)
    return found


def readers(url: str) -> dict[str, dict[str, Any]]:
    """What redis-py, kombu, Celery's result backend and RedBeat would connect with."""
    app = app_of(url)
    with app.connection_for_write() as connection:
        kombu = Unconnected(connection.transport).pool
    asked = read_url(url).options
    backend = app.backend
    params = dict(backend.connparams)
    pool = redis.ConnectionPool(**params)
    ours = redis.Redis.from_url(**read_url(url).for_redis_py()).connection_pool
    beat = redis.Redis.from_url(
        app.conf.redbeat_redis_url, **app.conf.redbeat_redis_options,
        **app.conf.redbeat_redis_use_ssl,
    ).connection_pool  # fmt: skip
    found = {"ours": kwargs(ours), "kombu": kwargs(kombu), "backend": kwargs(pool)}
    found["redbeat"] = kwargs(beat)
    for one in found.values():  # where the URL says nothing, each has a default of its own
        for name in set(ASKED[6:12]) - set(asked):
            one.pop(name)
    return found


def alike(url: str) -> dict[str, Any]:
    found = readers(url)
    first, *rest = found.values()
    for other in rest:
        assert other == first, found
    return first


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": None}),
        ("redis://", {"host": "localhost", "port": 6379}),
        ("redis://h:/", {"host": "h", "port": 6379}),
        ("redis://h:7000/3", {"port": 7000, "db": 3}),
        ("redis://h?db=4", {"db": 4}),
        ("redis://h/4?db=4", {"db": 4}),
        ("redis://h?virtual_host=4", {"db": 4}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000}),
        ("redis://münchen.example", {"host": "xn--mnchen-3ya.example"}),
        ("redis://redis_queue:6379", {"host": "redis_queue"}),
        ("redis://:p%40ss%2Fw%3Ard%3B%25@h", {"username": None, "password": "p@ss/w:rd;%"}),
        ("redis://:p@ss;[]&=+~100%@h", {"password": "p@ss;[]&=+~100%"}),
        ("redis://us%3Aer:pw@h", {"username": "us:er", "password": "pw"}),
        ("redis://user@h", {"username": "user", "password": None}),
        ("redis://h?socket_timeout=5", {"socket_timeout": 5.0}),
        ("redis://h?socket_connect_timeout=2.5", {"socket_connect_timeout": 2.5}),
        ("redis://h?socket_keepalive=true", {"socket_keepalive": True}),
        ("redis://h?health_check_interval=30", {"health_check_interval": 30}),
        ("redis://h?retry_on_timeout=yes&client_name=x", {"client_name": "x"}),
        ("rediss://h", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required"}),
        ("rediss://h?ssl_cert_reqs=none", {"ssl_cert_reqs": "none", "ssl_check_hostname": None}),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://h?ssl_check_hostname=False", {"ssl_check_hostname": None}),
        ("unix:///run/r.sock?db=2", {"path": "/run/r.sock", "db": 2, "host": None}),
        ("unix://:p%2Fw@/run/a%20b", {"path": "/run/a b", "password": "p/w"}),
        ("redis+socket:///run/r.sock?virtual_host=2", {"path": "/run/r.sock", "db": 2}),
        ("redis+socket:///run/r.sock?db=2&socket_timeout=3", {"socket_timeout": 3.0}),
    ],
)
def test_all_who_connect_to_redis_read_it_alike(url: str, means: dict[str, Any]) -> None:
    found = alike(url)
    assert {key: found[key] for key in means} == means


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("amqp://", {"host": "localhost:5672", "userid": "guest", "virtual_host": "/"}),
        ("amqp://h//", {"virtual_host": "/"}),
        ("amqp://h/%2F", {"virtual_host": "/"}),
        ("amqp://h/shop", {"virtual_host": "shop"}),
        ("amqp://h/a%2Fb%3B", {"virtual_host": "a/b;"}),
        ("pyamqp://u:p%40%3B@h:1", {"host": "h:1", "userid": "u", "password": "p@;"}),
        ("amqp://[::1]:7", {"host": "[::1]:7"}),
        ("amqp://h?connection_timeout=3", {"connect_timeout": 3.0}),
        ("amqp://h?ssl=false", {"ssl": False}),
        ("amqp://h?ssl=true", {"host": "h:5672"}),
        ("amqps://h", {"host": "h:5671"}),
    ],
)
def test_kombu_reads_rabbitmqs_as_it_is_meant(url: str, means: dict[str, Any]) -> None:
    with app_of_rabbitmq(url).connection_for_write() as connection:
        for name, value in connection.transport.default_connection_params.items():
            if not getattr(connection, name, None):  # as it does while connecting
                setattr(connection, name, value)
        assert {key: getattr(connection, key) for key in means} == means


def app_of_rabbitmq(url: str) -> Celery:
    app = Celery(set_as_current=False)
    bench = Settings(Path("/bench/sites"), redis_queue="redis://h", celery_broker_url=url)
    app.config_from_object(celery_settings(bench))
    return app


@pytest.mark.parametrize(
    ("url", "verified", "name"),
    [
        ("amqps://h", 2, "h"),
        ("amqp://h?ssl=true", 2, "h"),
        ("amqps://[::1]", 2, "::1"),
        ("amqps://h?ssl_check_hostname=false", 2, None),
        ("amqps://h?ssl_cert_reqs=CERT_NONE", 0, None),
    ],
)
def test_rabbitmqs_certificate_is_verified_unless_the_url_says_otherwise(
    url: str, verified: int, name: str | None
) -> None:
    with app_of_rabbitmq(url).connection_for_write() as connection:
        assert connection.transport_cls == "amqps"
        assert (connection.ssl["cert_reqs"], connection.ssl.get("server_hostname")) == (
            verified, name
        )  # fmt: skip


def test_a_heartbeat_is_the_workers() -> None:
    assert app_of_rabbitmq("amqp://h?heartbeat=20").conf.broker_heartbeat == 20


def test_rabbitmqs_nodes_may_be_a_list() -> None:
    with app_of_rabbitmq("amqp://a//;amqp://u:p@b:7//").connection_for_write() as connection:
        assert connection.alt == ["amqp://a:5672//", "amqp://u:p@b:7//"]


@pytest.mark.parametrize(
    ("url", "legal"),
    [
        ("", "begins with redis://, rediss://"),
        ("h:6379", "begins with redis://"),
        ("sqs://h", "others are not supported"),
        ("sentinel://h", "others are not supported"),
        ("redis://h:notaport", "a port, a number from 1 to 65535"),
        ("redis://h:0", "a port, a number from 1 to 65535"),
        ("redis://h:65536", "a port, a number from 1 to 65535"),
        ("redis://h:٣", "a port, a number from 1 to 65535"),
        ("redis://h:1:2", "a port, a number from 1 to 65535"),
        ("redis://[bad", "a host and a port"),
        ("redis://[bad]", "an IPv6 address between"),
        ("redis://[fe80::1%25eth0]", "an IPv6 address between"),
        ("redis://a..b", "the name or the address of a host"),
        ("redis://.b", "the name or the address of a host"),
        ("redis://a%00b", "the name or the address of a host"),
        ("redis://h/x", "the number of a database"),
        ("redis://h/-1", "the number of a database"),
        ("redis://h/1/2", "the number of a database"),
        ("redis://h/" + "9" * 5000, "the number of a database"),
        ("redis://h?db=", "'db' is the number of a database"),
        ("redis://h?db", "'db' is the number of a database"),
        ("redis://h/1?db=2", "one database"),
        ("redis://h?db=1&db=1", "one 'db'"),
        ("redis://h?protocol=3", "not 'protocol'"),
        ("redis://h?password=x", "not 'password'"),
        ("redis://h?x-y=1", "not 'others'"),
        ("redis://h?&", "not 'others'"),
        ("redis://h?socket_timeout=fast", "'socket_timeout' is a number of seconds"),
        ("redis://h?socket_timeout=0", "'socket_timeout' is a number of seconds"),
        ("redis://h?socket_timeout=nan", "'socket_timeout' is a number of seconds"),
        ("redis://h?socket_timeout=1e999", "'socket_timeout' is a number of seconds"),
        ("redis://h?socket_keepalive=perhaps", "'socket_keepalive' is true or false"),
        ("redis://h?client_name=a%20b", "'client_name' is a word"),
        ("redis://h?ssl_cert_reqs=none", "begins with rediss:// if it has 'ssl_cert_reqs'"),
        ("redis://h?ssl=true", "not 'ssl'"),
        ("rediss://h?ssl_cert_reqs=maybe", "'ssl_cert_reqs' is required or none"),
        ("rediss://h?ssl_ca_certs=ca.pem", "'ssl_ca_certs' is the absolute path of a file"),
        ("rediss://h?ssl_ca_certs=/no/ca.pem", "'ssl_ca_certs' is a file of certificates: [Errno"),
        ("rediss://h?ssl_ca_certs=/etc/hostname", "'ssl_ca_certs' is a file of certificates: [X5"),
        ("rediss://h?ssl_ca_certs=/etc", "'ssl_ca_certs' is a file of certificates"),
        ("rediss://h?ssl_certfile=/no", "'ssl_certfile' is a certificate, with an unencrypted key"),
        ("rediss://h?ssl_keyfile=/no", "'ssl_certfile' if it has 'ssl_keyfile'"),
        ("rediss://h?ssl_min_version=771", "not 'ssl_min_version'"),
        ("amqp://h?ssl_ca_certs=/etc/hostname", "begins with amqps://"),
        ("amqp://h?cacertfile=/etc/hostname", "begins with amqps://"),
        ("amqps://h?ssl=false", "without ssl=false"),
        ("amqp://h?db=1", "not 'db'"),
        ("amqp://h/" + "v" * 256, "at most 255 bytes"),
        ("amqp://h;redis://h", "only RabbitMQ's nodes may be a list"),
        ("redis://h;redis://h", "only RabbitMQ's nodes may be a list"),
        ("amqp://a/x;amqp://b/y", "the same options and virtual host"),
        ("amqps://a;amqps://b", "ssl_check_hostname=false"),
        ("unix://", "a socket with its absolute path"),
        ("unix:///", "a socket with its absolute path"),
        ("unix://run/r.sock", "a socket with its absolute path"),
        ("unix:///" + "x" * 107, "a socket with its absolute path"),
        ("unix:///run/r.sock?socket_keepalive=true", "not 'socket_keepalive'"),
        (f"redis://:{SECRET}/x@h", "an '@' only before the host"),
        (f"redis://:{SECRET}?x@h", "an '@' only before the host"),
        (f"redis://:a@b/{SECRET}?x@h", "an '@' only before the host"),
        (f"redis://:{SECRET}#x@h", "without spaces and '#'"),
        (f"redis://:{SECRET} x@h", "without spaces and '#'"),
        (f"redis://:{SECRET}\n@h", "without spaces and '#'"),
        (f"redis://:{SECRET}%FF@h", "spell UTF-8"),
        (f"redis://:{SECRET}\udcff@h", "without spaces and '#'"),
    ],
    ids=ascii,
)
def test_what_cannot_mean_the_same_to_all_is_refused(url: str, legal: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_url(url)
    assert legal in str(refused.value)
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)


def test_defaults_hold_where_the_url_says_nothing() -> None:
    said = read_url("redis://h?socket_timeout=3").for_redis_py(
        socket_timeout=9.0, socket_connect_timeout=9.0, socket_keepalive=True
    )
    assert said == {
        "url": "redis://h:6379/0", "socket_timeout": 3.0, "socket_connect_timeout": 9.0,
        "socket_keepalive": True,
    }  # fmt: skip
    socket = read_url("unix:///run/r.sock").for_redis_py(
        socket_keepalive=True, socket_connect_timeout=9, socket_timeout=9
    )
    assert socket == {"url": "unix:///run/r.sock?db=0", "socket_timeout": 9}


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("rediss://h", "[SSL: WRONG_VERSION_NUMBER] wrong version number", "Does it speak no TLS?"),
        ("rediss://h", "verify failed: unable to get local issuer", "Name the authority that"),
        ("amqps://h", "EOF occurred in violation", "Does it ask for our certificate?"),
        ("rediss://h", "Error 104 while writing. Connection reset by peer.", "our certificate"),
        (
            "redis://h",
            "Connection closed by server.",
            "server. Does it speak only TLS? Then use",
        ),
        ("amqp://h", "[Errno 104] Connection reset by peer", "Then use amqps://."),
        ("redis://h", "Error 111 connecting to h:6379. Refused.", "Refused."),
        ("unix:///r.sock", "Connection closed by server.", "Connection closed by server."),
        ("redis://h?nonsense=1", "Connection reset\nand more", "Connection reset"),
    ],
)
def test_where_tls_fails_it_is_said_what_may_be_missing(url: str, error: str, said: str) -> None:
    text = unreached(OSError(error), url)
    assert said in text and "\n" not in text


# --- whatever is written


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
sharp = st.text(st.sampled_from("aZ0@/:#?%&.[];=+~ü \\\"'<\n\0٣㎠℀"), max_size=8)
options = st.dictionaries(
    st.sampled_from(
        "db virtual_host socket_timeout protocol ssl_cert_reqs ssl_check_hostname ssl_ca_certs "
        "socket_keepalive client_name health_check_interval password ssl heartbeat x".split()
    ),
    st.sampled_from(["", "0", "1", "5.5", "none", "CERT_NONE", "true", "no", "/etc/hostname", "x"])
    | sharp,
    max_size=3,
)
schemes = st.sampled_from(
    "redis rediss unix redis+socket amqp amqps pyamqp http REDIS redis+x".split()
)


@st.composite
def urls(draw: Any) -> str:
    """Of the form of a URL, with anything in it."""
    part = draw(st.sampled_from([sharp, text, st.text(st.sampled_from("abc.12"), max_size=6)]))
    escape = draw(st.sampled_from([str, lambda one: quote(one, safe="")]))
    user = draw(st.sampled_from(["", "{}@", ":{}@", "{}:{}@"])).format(
        *map(escape, (draw(part), draw(part)))
    )
    host = draw(st.sampled_from(["h", "", "[::1]", "127.0.0.1"]) | part)
    port = draw(st.sampled_from(["", ":6379", ":0", ":x", ":99999"]))
    path = draw(st.sampled_from(["", "/", "/0", "/3", "//", "/run/x.sock", "/%2F"]) | part)
    query = "&".join(f"{name}={value}" for name, value in draw(options).items())
    return f"{draw(schemes)}://{user}{host}{port}{path}{'?' * bool(query)}{query}"


@settings(max_examples=150, database=None, deadline=None)
@example("redis://[")
@example("amqp://\u2100")
@given(urls() | sharp.map(lambda rest: f"redis://{rest}") | text)
def test_any_url_works_alike_for_all_or_is_refused_in_one_line(url: str) -> None:
    try:
        read = read_url(url)
    except ValueError as error:
        assert "\n" not in str(error)
        assert not isinstance(error, UnicodeError)
    else:
        if read.is_amqp:
            check_amqp(url, read)
        else:
            found = alike(url)
            assert (found["username"], found["password"]) == (read.username, read.password)
            where = {"host": read.host, "port": read.port} if read.host else {"path": read.path}
            assert {key: found[key] for key in where} == where


def check_amqp(url: str, read: ServerURL) -> None:
    with app_of_rabbitmq(url).connection_for_write() as connection:
        assert (connection.userid, connection.password) == (read.username, read.password)
        assert connection.hostname.strip("[]") == read.host
        assert (connection.port, connection.virtual_host) == (read.port, read.virtual_host)
