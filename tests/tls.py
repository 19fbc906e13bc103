"""Certificates of the tests' own, and servers that have them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import redis
from chaos.servers import RabbitMQ, Redis
from kombu import Connection

from frappe_jobs.servers.url import read_url


class Authority:
    """A certificate authority, in a folder: ``ca.pem``, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            *("req", "-x509", "-days", "2", "-nodes", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=the tests"),
            *("-keyout", self._key, "-out", self.certificate),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),  # Python 3.13 asks for it
        )

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for the host of that name, and its key."""
        request, certificate, key = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "key"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{name}\nauthorityKeyIdentifier=keyid\n")
        _openssl(
            *("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-days", "2", "-in", request, "-out", certificate),
            *("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-extfile", extensions),
        )
        return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class TLSRedis(Redis):
    """It speaks TLS alone, as ``localhost``, and asks for no certificate of its clients."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.certificate, self.key = authority.sign("localhost")
        self._authority = authority
        self.port = self._port
        self.url = f"rediss://localhost:{self.port}/0?ssl_ca_certs={authority.certificate}"

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        command, variables = super()._command()
        command[command.index("--port") + 1] = "0"
        options = {
            "tls-port": self.port, "tls-cert-file": self.certificate, "tls-key-file": self.key,
            "tls-ca-cert-file": self._authority.certificate, "tls-auth-clients": "no",
        }  # fmt: skip
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return command, variables

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(**read_url(self.url).for_redis_py()) as server:
                return bool(server.ping())
        except redis.RedisError:
            return False


class TLSRabbitMQ(RabbitMQ):
    """It speaks TLS alone, as ``localhost``, and lets in who has a certificate of the authority."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        certificate, key = authority.sign("localhost")
        self.port = self._port
        self.base = f"amqps://guest:guest@localhost:{self.port}//"
        trust = f"ssl_ca_certs={authority.certificate}"
        self.url = f"{self.base}?{trust}&ssl_certfile={certificate}&ssl_keyfile={key}"
        self._configuration = f"""[{{rabbit, [
            {{tcp_listeners, []}},
            {{ssl_listeners, [{{"127.0.0.1", {self.port}}}]}},
            {{ssl_options, [
                {{cacertfile, "{authority.certificate}"}},
                {{certfile, "{certificate}"}},
                {{keyfile, "{key}"}},
                {{verify, verify_peer}},
                {{fail_if_no_peer_cert, true}}
            ]}}
        ]}}]."""

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        command, variables = super()._command()
        without = ("RABBITMQ_NODE_PORT", "RABBITMQ_NODE_IP_ADDRESS")  # of a listener without TLS
        return command, {key: value for key, value in variables.items() if key not in without}

    def _answers(self) -> bool:
        where = read_url(self.url)
        try:
            with Connection(where.for_celery(), ssl=where.use_ssl(), connect_timeout=2) as asked:
                asked.connect()
                return True
        except OSError:
            return False
