"""HTTP to the front end with this node's signature: the files of jobs, down and up. Contents are streamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import httpx

from clusteros.envelope import sign_request
from native.engine import EngineError
from nodes.agent.config import NodeConfig

BLOCK_BYTES = 1 << 20
TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class FrontEnd:
    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def download(self, url: str, target: BinaryIO, sha256: str, size: int) -> None:
        """Write the content of `url` to `target`; BAD_IMAGE when it is not what was announced, IO when it cannot be had."""
        full = url if "://" in url else self._config.server_url.rstrip("/") + "/" + url.lstrip("/")
        self._stay_home(full)
        digest, length = hashlib.sha256(), 0
        try:
            with self._client.stream("GET", full, headers=self._signed("GET", full)) as response:
                _check_answer(response, full)
                for block in response.iter_bytes(BLOCK_BYTES):
                    length += len(block)
                    if length > size:
                        break
                    digest.update(block)
                    target.write(block)
        except httpx.HTTPError as error:
            raise EngineError("IO", f"fetch {full}: {error}") from error
        if length != size or digest.hexdigest() != sha256:
            raise EngineError("BAD_IMAGE", f"{full} is not the file that was announced (size or digest differs)")

    def upload(self, run: str, pod: int, path: str, file: BinaryIO, sha256: str) -> None:
        """PUT one file of a working directory."""
        full = f"{self._config.server_url.rstrip('/')}/api/v1/agent/files/{run}/{pod}/{quote(path)}"
        headers = self._signed("PUT", full, sha256) | {"Content-Type": "application/octet-stream"}
        headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        try:
            _check_answer(self._client.put(full, content=_blocks(file), headers=headers), full)
        except httpx.HTTPError as error:
            raise EngineError("IO", f"upload {path}: {error}") from error

    def _signed(self, method: str, url: str, sha256: str = "") -> dict[str, str]:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return sign_request(self._config.name, self._config.secret, method, target, content_sha256=sha256)

    def _stay_home(self, url: str) -> None:
        """A signature is for the front end alone."""
        if urlsplit(url).netloc != urlsplit(self._config.server_url).netloc:
            raise EngineError("USAGE", f"{url} is not at the front end {self._config.server_url}")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _check_answer(response: httpx.Response, url: str) -> None:
    if response.status_code < 300:
        return
    code = {401: "DENIED", 403: "DENIED", 404: "NO_INPUT", 507: "NO_SPACE"}.get(response.status_code, "IO")
    raise EngineError(code, f"{url}: the front end answered {response.status_code}")


def file_digest(path: Path) -> tuple[str, int]:
    """(SHA-256, size) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
