"""This node's store over HTTP, for other nodes and the front end with a ticket: manifests, chunks, certificates, and what
an image holds: its processes, and one of them as an ELF core; and whether this machine could bring an image back.

GET /images/DIGEST/manifest, GET /images/DIGEST/chunks (lines of digest and length), POST /chunks [digests], GET /chunks/DIGEST,
GET /certificates, GET /images/DIGEST/processes, GET /images/DIGEST/cores/PID, POST /fit MANIFEST, POST /images/frees [[digests
that go together] …]: what each removal would give back here. The header X-ClusterOS-Image names the image that chunks are wanted
for: it tells whose store they lie in. A ticket (header X-ClusterOS-Ticket) is signed with this node's own secret by the control
side. Chunks go out as the engine's stream,
checked by it before they leave; one that is damaged here ends the stream early, which the asker notices.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import zip_longest
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from clusteros.envelope import EnvelopeError, check_ticket
from native.engine import EngineError
from nodes.agent.agent import Agent
from nodes.agent.stores import DIGEST

log = logging.getLogger(__name__)
BODY_MAX_BYTES = 1 << 20
DIGESTS_MAX = 4096
COPY_BYTES = 1 << 20
READ_TIMEOUT_S = 60.0
_MANIFEST = re.compile(r"/images/([0-9a-f]{64})/manifest\Z")
_IMAGE_CHUNKS = re.compile(r"/images/([0-9a-f]{64})/chunks\Z")
_PROCESSES = re.compile(r"/images/([0-9a-f]{64})/processes\Z")
_CORE = re.compile(r"/images/([0-9a-f]{64})/cores/([1-9][0-9]{0,9})\Z")
CORE_TIMEOUT_S, FREES_TIMEOUT_S = 300.0, 120.0
FIT_TIMEOUT_S = 20.0
MANIFEST_MAX_BYTES = 256 << 20
_CHUNK = re.compile(r"/chunks/([0-9a-f]{64})\Z")


class Refused(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def _digests_in(value: Any, most: int) -> list[str]:
    if not isinstance(value, list) or len(value) > most:
        raise Refused(400, f"not a list of at most {most} digests")
    if not all(isinstance(digest, str) and DIGEST.match(digest) for digest in value):
        raise Refused(400, "not a list of digests")
    return value


class StoreServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        shutil.rmtree(agent.config.folder("cores"), ignore_errors=True)  # what a killed service left
        super().__init__((agent.config.address, agent.config.store_port), Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's question for our name: where no name server answers it takes many seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.agent.config.address, self.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name="store-server", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("a reader of the store went away: %s", client_address)


class Handler(BaseHTTPRequestHandler):
    server: StoreServer
    timeout = READ_TIMEOUT_S
    server_version = "clusteros-store"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%s %s", self.address_string(), format % args)

    def _answer(self, work: Any) -> None:
        try:
            self._check_ticket()
            work()
        except Refused as refused:
            self._send(refused.status, str(refused).encode(), "text/plain; charset=utf-8")

    def _check_ticket(self) -> None:
        try:
            check_ticket(self.headers.get("X-ClusterOS-Ticket", ""), self.server.agent.config.secret)
        except EnvelopeError as error:
            raise Refused(403, str(error)) from None

    def _get(self) -> None:
        if match := _MANIFEST.match(self.path):
            self._send_manifest(match[1])
        elif match := _CHUNK.match(self.path):
            self._send_chunks([match[1]])
        elif match := _IMAGE_CHUNKS.match(self.path):
            self._send_chunk_list(match[1])
        elif match := _PROCESSES.match(self.path):
            self._send_processes(match[1])
        elif match := _CORE.match(self.path):
            self._send_core(match[1], match[2])
        elif self.path == "/certificates":
            self._send(200, json.dumps(self.server.agent.certificates.listing()).encode(), "application/json")
        else:
            raise Refused(404, "there is no such thing")

    def _post(self) -> None:
        if self.path == "/chunks":
            self._send_chunks(_digests_in(self._read_json(), DIGESTS_MAX))
        elif self.path == "/images/frees":
            self._send_frees(self._read_json())
        elif self.path == "/fit":
            self._send_fit()
        else:
            raise Refused(404, "there is no such thing")

    def _body_length(self, most_bytes: int) -> int:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > most_bytes:
            raise Refused(413, "the body is too long, or its length is not given")
        return int(length)

    def _read_json(self) -> Any:
        try:
            return json.loads(self.rfile.read(self._body_length(BODY_MAX_BYTES)))
        except (ValueError, RecursionError):
            raise Refused(400, "not a JSON list") from None

    def _send_frees(self, groups: Any) -> None:
        if not isinstance(groups, list) or len(groups) > DIGESTS_MAX:
            raise Refused(400, f"not a list of at most {DIGESTS_MAX} lists")
        asked = [_digests_in(group, DIGESTS_MAX) for group in groups]
        try:
            answer = _frees_of(self.server.agent, asked)
        except EngineError as error:
            raise Refused(error.code.http, error.message) from None
        self._send(200, json.dumps(answer).encode(), "application/json")

    def _send_manifest(self, digest: str) -> None:
        path = self.server.agent.images.path(digest) / "manifest"
        try:
            with path.open("rb") as file:
                self._begin(200, "application/octet-stream", path.stat().st_size)
                shutil.copyfileobj(file, self.wfile, COPY_BYTES)
        except FileNotFoundError:
            raise Refused(404, f"image {digest} is not here") from None

    def _send_chunk_list(self, digest: str) -> None:
        """"DIGEST LENGTH" of every chunk that the image needs: whole before the first byte goes out."""
        agent = self.server.agent
        if not agent.images.has(digest):
            raise Refused(404, f"image {digest} is not here")
        with tempfile.TemporaryFile(dir=agent.config.state) as kept:
            try:
                with agent.engine.reading("image-chunks", "--image", agent.images.path(digest)) as lines:
                    shutil.copyfileobj(lines, kept, COPY_BYTES)
            except EngineError as error:
                raise Refused(error.code.http, error.message) from None
            self._begin(200, "text/plain; charset=us-ascii", kept.tell())
            kept.seek(0)
            shutil.copyfileobj(kept, self.wfile, COPY_BYTES)

    def _send_processes(self, digest: str) -> None:
        listed = self._ask("--image", self.server.agent.images.path(digest))
        self._send(200, json.dumps({"processes": listed["processes"]}).encode(), "application/json")

    def _send_core(self, digest: str, pid: str) -> None:
        """Made as a file that nobody else sees and that is gone with the connection."""
        agent = self.server.agent
        folder = agent.config.folder("cores")
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            path = Path(made) / "core"
            place = agent.images.place(digest)
            self._ask("--image", place.path(digest), "--store", place.store, "--pid", pid, "--out", path)
            with path.open("rb") as file:
                self._begin(200, "application/octet-stream", path.stat().st_size)
                shutil.copyfileobj(file, self.wfile, COPY_BYTES)

    def _send_fit(self) -> None:
        """The image need not be here: what a restore on this machine would refuse, or tell of, stands in its manifest."""
        agent, left = self.server.agent, self._body_length(MANIFEST_MAX_BYTES)
        folder = agent.config.folder("cores")
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            with (Path(made) / "manifest").open("wb") as file:
                while left and (piece := self.rfile.read(min(left, COPY_BYTES))):
                    left -= file.write(piece)
            answer = _fit_of(agent, made)
        self._send(200, json.dumps(answer).encode(), "application/json")

    def _ask(self, *arguments: str | Path) -> Any:
        try:
            return self.server.agent.engine.call("image-core", *arguments, timeout_s=CORE_TIMEOUT_S)
        except EngineError as error:
            raise Refused(error.code.http, error.message) from None

    def _send_chunks(self, digests: list[str]) -> None:
        agent, wanted = self.server.agent, "".join(f"{digest}\n" for digest in digests).encode()
        image = self.headers.get("X-ClusterOS-Image", "")
        store = agent.images.place(image).store if DIGEST.match(image) else agent.images.of("").store
        self._send_stream("store-export", "--store", store, stdin=wanted)

    def _send_stream(self, verb: str, *arguments: str | Path, stdin: bytes = b"") -> None:
        self._begin(200, "application/octet-stream", None)
        try:
            with self.server.agent.engine.reading(verb, *arguments, stdin=stdin) as stream:
                shutil.copyfileobj(stream, self.wfile, COPY_BYTES)
        except EngineError as error:
            log.warning("%s was not sent whole: %s", verb, error)

    def _begin(self, status: int, kind: str, length: int | None) -> None:
        """HTTP/1.0: without a length the end of the connection is the end of the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self._begin(status, kind, len(body))
        self.wfile.write(body)


def _frees_of(agent: Agent, groups: list[list[str]]) -> dict[str, Any]:
    """Summed over the stores of all owners: what one owner's image needs is nothing to another's."""
    frees, together = [0] * len(groups), 0
    for place in agent.images.every():
        lines = "".join(f"{digest} {k}\n" for k, group in enumerate(groups) for digest in group if place.has(digest))
        if lines:
            arguments = ("--store", place.store, "--images", place.images)
            found = agent.engine.feed("store-frees", *arguments, pieces=[lines.encode()], timeout_s=FREES_TIMEOUT_S)
            frees = [size + more for size, more in zip_longest(frees, found["frees"], fillvalue=0)]
            together += found["together"]
    return {"frees": frees, "together": together}


def _fit_of(agent: Agent, folder: str) -> dict[str, Any]:
    """{fits, words: why not, changed: [words]} by the engine of this machine. Refused for what is no manifest."""
    try:
        seen = agent.engine.call("image-fit", "--image", folder, timeout_s=FIT_TIMEOUT_S)
    except EngineError as error:
        if error.code.name != "UNSUPPORTED":
            raise Refused(error.code.http, error.message) from None
        return {"fits": False, "words": error.message, "changed": []}
    return {"fits": True, "words": "", "changed": seen.get("warnings", [])}
