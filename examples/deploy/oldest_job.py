"""Serve the age of each queue's oldest waiting job, in seconds, as JSON: {"short": 12.5, …}.

For KEDA's metrics-api: the longer a job has waited, the more workers it starts.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from frappe_jobs import runtime
from frappe_jobs.errors import BrokerError


def ages() -> dict[str, float]:
    """By queue; 0 where nothing waits.  Raises BrokerError."""
    here, now = runtime.current(), time.time()
    oldest = {queue: here.ledger.oldest(queue) for queue in here.settings.queues}
    return {queue: max(0.0, now - at) if at else 0.0 for queue, at in oldest.items()}


class Ages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            status, text = 200, json.dumps(ages())
        except BrokerError as error:  # KEDA keeps the number of workers then
            status, text = 503, json.dumps({"error": str(error)})
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing: KEDA asks every few seconds."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("", int(sys.argv[1])), Ages) as server:
        print(f"ready on port {server.server_port}", flush=True)
        server.serve_forever()
