"""An exported generation (checkpoints/services/exporting.py) comes back into this node's store: `clusteros node import FILE`.

The file is hostile until checked: only its own plain members are read, every chunk is taken by the engine (which checks its digest), and a
manifest becomes an image only when the store holds all of its chunks. Whether the certificate is this cluster's, the control side
says when it makes a job of it (`clusteros server import FILE`). What was taken before a failure is kept or swept later; to be run again.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from clusteros.owners import owner_tag
from native.engine import Engine, EngineError
from nodes.agent.config import NodeConfig
from nodes.agent.durable import remove, write_json
from nodes.agent.prefetching import IMPORT_TIMEOUT_S, MANIFEST_MAX_BYTES
from nodes.agent.stores import DIGEST, FACTS, OwnerStore, Stores, give_name

CERTIFICATE_MAX_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
_MEMBER = re.compile(r"[A-Za-z0-9-]{1,64}/(README|certificate\.json|end|pod-([0-9]{1,5})/(manifest|chunks-[0-9]{5,9}))\Z")


@dataclass(frozen=True)
class Exported:
    """What the certificate tells."""

    owner: str
    images: dict[int, tuple[str, int]]
    """(digest, bytes) of each pod."""


def import_file(config: NodeConfig, path: Path) -> list[str]:
    """Digests of the images that this node holds now. EngineError: what is wrong with the file, or with the store."""
    engine = Engine()
    try:
        with tarfile.open(path, "r:") as tar:
            members = _members(tar, path)
            told = _told(_read(tar, members["certificate.json"], CERTIFICATE_MAX_BYTES))
            place = Stores(config.state).of(owner_tag(told.owner))
            place.images.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, member in members.items():
                if "/chunks-" in name:
                    engine.feed("store-import", "--store", place.store, pieces=_pieces(tar, member), timeout_s=IMPORT_TIMEOUT_S)
            return [_adopt(engine, place, *told.images[pod], _manifest(tar, members, pod)) for pod in sorted(told.images)]
    except (OSError, tarfile.TarError) as error:
        raise EngineError("BAD_IMAGE", f"{path} cannot be read as an export: {error}") from error


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """By name without the folder; only what an export has, and all the way to its end."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        match = _MEMBER.match(member.name)
        if match is None or not member.isreg() or match[1] in found:
            raise EngineError("BAD_IMAGE", f"{path} is not an exported generation: {member.name[:100]!r} is in it")
        found[match[1]] = member
    if "certificate.json" not in found or "end" not in found:
        raise EngineError("BAD_IMAGE", f"{path} is not a whole exported generation: its end is missing")
    return found


def _told(certificate: bytes) -> Exported:
    try:
        told: Any = json.loads(certificate)
        images = {int(each["pod"]): (str(each["digest"]), int(each["bytes"])) for each in told["pods"]}
        owner = str(told["job"]["owner"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise EngineError("BAD_IMAGE", "certificate.json is not a certificate") from None
    if not images or not all(DIGEST.match(digest) for digest, _ in images.values()):
        raise EngineError("BAD_IMAGE", "certificate.json names no images")
    return Exported(owner, images)


def _manifest(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], pod: int) -> Iterator[bytes]:
    member = members.get(f"pod-{pod}/manifest")
    if member is None or member.size > MANIFEST_MAX_BYTES:
        raise EngineError("BAD_IMAGE", f"the manifest of pod {pod} is missing, or longer than any may be")
    return _pieces(tar, member)


def _adopt(engine: Engine, place: OwnerStore, digest: str, size: int, manifest: Iterator[bytes]) -> str:
    """Under its name only when the engine has found all of it; the node service beside us sees no half."""
    making = place.images / f"importing-{digest}"
    remove(making)
    arguments = ("--dir", making, "--store", place.store, "--digest", digest)
    engine.feed("image-import", *arguments, pieces=manifest, timeout_s=IMPORT_TIMEOUT_S)
    write_json(making / FACTS, {"bytes": size})
    give_name(making, digest, held=place.has(digest))
    return digest


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, most_bytes: int) -> bytes:
    if member.size > most_bytes:
        raise EngineError("BAD_IMAGE", f"{member.name} is longer than it may be")
    return b"".join(_pieces(tar, member))


def _pieces(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file: IO[bytes] | None = tar.extractfile(member)
    assert file is not None, "a regular file has content"
    while piece := file.read(PIECE_BYTES):
        yield piece
