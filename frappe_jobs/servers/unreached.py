"""Why a server is out of reach, in one line, with what may be missing if TLS fails."""

from __future__ import annotations

from frappe_jobs.servers.url import ServerURL, read_url

#: Parts of errors' texts; a server that wants a certificate may also just hang up.
UNKNOWN_AUTHORITY = ("self-signed certificate", "self signed certificate", "unable to get local")
NO_CERTIFICATE = ("certificate required", "EOF occurred", "bad certificate", "handshake failure")
NO_TLS = ("WRONG_VERSION_NUMBER", "wrong version number", "record layer failure")
HUNG_UP = ("Connection closed by server", "Connection reset", "unexpectedly closed")


def unreached(error: BaseException, url: str) -> str:
    """The first line of the error's text, and a cure if we know one."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    try:
        cure = _cure(text, read_url(url))
    except ValueError:  # a team's own app reads it otherwise
        cure = ""
    return f"{text.rstrip('.')}. {cure}" if cure else text


def _cure(text: str, server: ServerURL) -> str:
    if server.tls is None:
        is_hung_up = not server.path and any(phrase in text for phrase in HUNG_UP)
        secure = "amqps" if server.is_amqp else "rediss"
        return f"Does it speak only TLS? Then use {secure}://." if is_hung_up else ""
    if any(phrase in text for phrase in UNKNOWN_AUTHORITY):
        return "Name the authority that signed its certificate: ssl_ca_certs."
    if any(phrase in text for phrase in NO_TLS):
        return "Does it speak no TLS?"
    hung_up = (*NO_CERTIFICATE, *HUNG_UP)  # it may have hung up before its answer is read
    if "ssl_certfile" not in server.tls and any(phrase in text for phrase in hung_up):
        return "Does it ask for our certificate? Then name it: ssl_certfile, ssl_keyfile."
    return ""
