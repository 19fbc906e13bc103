"""How long whatever of ours speaks to Redis or RabbitMQ waits for it.

Libraries have limits of their own, or none, from one version to the next: a network that swallows
packets without a word would hold a worker, or who enqueues, for ever.
"""

from __future__ import annotations

import socket

#: Seconds until a server must have taken a connection.
CONNECT_TIMEOUT = 3.0

#: Seconds until it must have answered, or taken what it was sent.
ANSWER_TIMEOUT = 5.0

#: A connection that nobody used for so many seconds is made anew, or asked first whether it is
#: there: who balances loads drops such ones after 30 seconds or more, and may not say so.
IDLE = 10.0

#: Seconds between two signs of life of RabbitMQ and of who is connected; two missing ones end it.
HEARTBEAT = 10

#: Where Linux, the BSDs and macOS have them: the system finds out by itself as well.
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

#: All that as redis-py, kombu and RedBeat spell it; a Unix socket has the first alone.
REDIS_LIMITS = {
    "socket_timeout": ANSWER_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
    "socket_keepalive_options": KEEPALIVE,
}

#: As kombu hands it to py-amqp.
AMQP_LIMITS = {
    "read_timeout": ANSWER_TIMEOUT,
    "write_timeout": ANSWER_TIMEOUT,
    "socket_settings": KEEPALIVE,
}
