"""A proxy before an object store that fails on request, as networks and servers do."""

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SLOW_DOWN = b"<Error><Code>SlowDown</Code></Error>"
_INTERNAL = b"<Error><Code>InternalError</Code></Error>"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path matches.

    `kind`: "500" and "503" are answers instead of the server's; "reset" ends the connection in the
    middle of the body of an answer; "stall" says nothing for some seconds; "lost" lets the server
    do what it is asked, and ends the connection before the answer.
    """

    kind: str
    method: str
    path: str = ""
    times: int = 1
    seconds: float = 3.0


@dataclass
class Proxy:
    """Where it listens, what is to go wrong, and what did."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault of this request, which is then used up."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                self.seen.append(f"{fault.kind} {method} {path}")
                return fault
        return None


@contextmanager
def faulty(port: int) -> Iterator[Proxy]:
    """A proxy before the server at a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else headers wait for the body's acknowledgment

        def log_message(self, *_):
            pass

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.take(self.command, self.path)
            if fault and fault.kind in ("500", "503"):
                told = _SLOW_DOWN if fault.kind == "503" else _INTERNAL
                self.answer(int(fault.kind), {}, told)
                return
            if fault and fault.kind == "stall":
                time.sleep(fault.seconds)
                self.reset()
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            if fault and fault.kind == "lost":
                self.reset()
                return
            cut = len(data) // 2 if fault and fault.kind == "reset" else None
            self.answer(answer.status, dict(answer.getheaders()), data, cut)
            if cut is not None:
                self.reset()

        def answer(self, status, headers, data, cut=None):
            self.send_response_only(status)
            apart = ("content-length", "connection", "transfer-encoding")
            for name, value in headers.items():
                if name.lower() not in apart:
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])

        def reset(self):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
