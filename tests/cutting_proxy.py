"""A proxy before an HTTP server that cuts connections when it is told to."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


class Proxy:
    """Hands requests on to `url`, counting them, until `cut` says which to drop.

    `cut(n)` is asked for each request, counted from 1 after `reset`: "no"; "request", which never
    arrives; "answer", which arrives and whose answer is lost.
    """

    def __init__(self, url: str) -> None:
        self.requests: list[str] = []  # method and path
        self._cut: Callable[[int, str], str] = lambda _number, _request: "no"
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(url))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def reset(self, cut: Callable[[int, str], str] = lambda _number, _request: "no") -> None:
        """Count from 1 again, and drop what `cut` says."""
        with self._lock:
            self.requests, self._cut = [], cut

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _judge(self, request: str) -> str:
        with self._lock:
            self.requests.append(request)
            return self._cut(len(self.requests), request)

    def _handler(self, url: str) -> type[BaseHTTPRequestHandler]:
        proxy, target = self, url.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = _body(self)
                fate = proxy._judge(f"{self.command} {self.path}")
                if fate == "request":
                    self.close_connection = True
                    return
                upstream = http.client.HTTPConnection(target, timeout=60)
                kept = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                upstream.request(self.command, self.path, body, kept)
                reply = upstream.getresponse()
                content = reply.read()
                upstream.close()
                if fate == "answer":
                    self.close_connection = True
                    return
                self.send_response_only(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
            setattr(Handler, f"do_{method}", Handler._forward)
        return Handler
