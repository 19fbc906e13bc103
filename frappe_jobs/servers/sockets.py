"""How long our connections wait for Redis or RabbitMQ.

Libraries have other limits, or none, depending on their version: a network that silently swallows
packets would block a worker, or a caller of ``enqueue``, for ever.
"""

from __future__ import annotations

import socket

#: Seconds until a server must have accepted a connection.
CONNECT_TIMEOUT = 3.0

#: Seconds until it must have answered, or accepted what it was sent.
ANSWER_TIMEOUT = 5.0

#: A connection that was idle for so many seconds is made anew, or first checked: load balancers
#: drop idle connections after 30 seconds or more, perhaps silently.
IDLE = 10.0

#: Seconds between two heartbeats of RabbitMQ and of its client; two missing ones end a connection.
HEARTBEAT = 10

#: Options on Linux, the BSDs and macOS by which the system notices a lost connection, too.
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": int(IDLE),
        "TCP_KEEPINTVL": 3,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": int(2 * ANSWER_TIMEOUT * 1000),
    }.items()
    if hasattr(socket, name)
}

#: All that as redis-py, kombu and RedBeat spell it; only the first applies to a Unix socket.
REDIS_LIMITS = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
    "socket_keepalive_options": KEEPALIVE,
}

#: How kombu tries again to connect, in its words: for less than a second, as a caller waits.
CONNECT_POLICY = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.3}

#: As kombu gives it to py-amqp.
AMQP_LIMITS = {
    "read_timeout": ANSWER_TIMEOUT,
    "write_timeout": ANSWER_TIMEOUT,
    "socket_settings": KEEPALIVE,
}
