"""The files of the front end, for tests: serves a folder and takes uploads, only to who signs as the node.

`python -m tests.node.front_server FILES UPLOADS NODE SECRET PORT`
"""

from __future__ import annotations

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from clusteros.envelope import HEADER_DATE, HEADER_DIGEST, HEADER_MAC, HEADER_NODE, EnvelopeError, check_request


class Handler(BaseHTTPRequestHandler):
    files = uploads = Path()
    node = secret = ""

    def do_GET(self) -> None:
        if self._proven():
            path = self.files / Path(self.path).name
            self._answer(200, path.read_bytes()) if path.exists() else self._answer(404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._proven():
            return
        if hashlib.sha256(body).hexdigest() != self.headers[HEADER_DIGEST]:
            self._answer(422)
            return
        target = self.uploads / unquote(self.path).removeprefix("/api/v1/agent/files/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
        self._answer(204)

    def _proven(self) -> bool:
        headers = self.headers
        try:
            check_request(
                self.secret, self.command, self.path, node=headers.get(HEADER_NODE, ""), date=headers.get(HEADER_DATE, ""),
                content_sha256=headers.get(HEADER_DIGEST, ""), mac=headers.get(HEADER_MAC, ""),
            )  # fmt: skip
        except EnvelopeError:
            self._answer(403)
            return False
        return True

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    Handler.files, Handler.uploads, Handler.node, Handler.secret = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[5])), Handler).serve_forever()


if __name__ == "__main__":
    main()
