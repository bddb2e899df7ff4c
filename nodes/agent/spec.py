"""A pod spec as the control side sends it, checked at the door.

The control side is proven by its mac, yet what it sends becomes paths, interface names and uids here: every
field is checked before it is used, and a job never runs as root.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from native.engine import EngineError

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
OWNER = re.compile(r"[a-z0-9]{1,64}\Z")
POD_MAX = 60_000
VNI_MAX = 1 << 24


def bad(words: str) -> EngineError:
    return EngineError("USAGE", words)


def take_uuid(body: dict[str, Any], name: str) -> str:
    try:
        return str(uuid.UUID(str(body[name])))
    except (KeyError, ValueError):
        raise bad(f"{name} is not a UUID") from None


def take_int(body: dict[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad(f"{name} is not a whole number from {low} to {high}")
    return value


def take_text(body: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not pattern.match(value):
        raise bad(f"{name} is not well formed: {value!r}")
    return value


def take_digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise bad(f"not a digest: {value!r}")
    return value


def take_owner(value: Any) -> str:
    """The owner of an order; nothing for one that does not tell it."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not OWNER.match(value):
        raise bad(f"owner is not well formed: {value!r}")
    return value


def take_path(value: Any, name: str, *, absolute: bool) -> PurePosixPath:
    """A clean path: no empty part, no `.` or `..`, no NUL."""
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath("..")
    parts = path.parts[1:] if absolute else path.parts
    if path.is_absolute() != absolute or not parts or ".." in parts or "\0" in str(path) or len(str(path)) > 1024:
        raise bad(f"{name} is not a clean {'absolute' if absolute else 'relative'} path: {value!r}")
    return path


def _take_ip(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Interface(str(value)).ip)
    except ValueError:
        raise bad(f"not an IPv4 address: {value!r}") from None


def _take_env(value: Any) -> dict[str, str]:
    env = value or {}
    if not isinstance(env, dict) or not all(
        isinstance(k, str) and _VARIABLE.match(k) and isinstance(v, str) and "\0" not in v for k, v in env.items()
    ):
        raise bad("env is not an object of variables and texts")
    return dict(env)


@dataclass(frozen=True)
class Place:
    """Where one pod of the run is."""

    pod: int
    node: str
    underlay_ip: str
    ip: str


@dataclass(frozen=True)
class PodSpec:
    job: str
    job_number: int
    run: str
    epoch: int
    pod: int
    pods: tuple[Place, ...]
    hostname: str
    uid: int
    gid: int
    user: str
    mem_bytes: int
    cores: int
    ranks_per_pod: int
    env: dict[str, str]
    workdir: str
    vni: int
    mtu: int
    owner: str = ""
    """Whose the job is, as a name of folders: whose equal chunks are stored once (stores.py)."""

    @property
    def key(self) -> str:
        return pod_key(self.run, self.pod)

    @property
    def place(self) -> Place:
        return next(p for p in self.pods if p.pod == self.pod)


def pod_key(run: str, pod: int) -> str:
    """The name of a pod's folders."""
    return f"{run}-{pod}"


def _take_places(body: dict[str, Any]) -> tuple[Place, ...]:
    entries = body.get("pods")
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise bad("pods is not a list of places")
    places = tuple(
        Place(take_int(e, "pod", 0, POD_MAX), str(e.get("node", "")), _take_ip(e.get("underlay_ip")), _take_ip(e.get("ip")))
        for e in entries
    )
    if len({p.pod for p in places}) != len(places) or len({p.ip for p in places}) != len(places):
        raise bad("pods names an index or an address twice")
    return places


def take_spec(body: dict[str, Any]) -> PodSpec:
    """The PodSpec of a start_pod or restore_pod. EngineError USAGE says which field is wrong."""
    spec = PodSpec(
        job=take_uuid(body, "job"),
        job_number=take_int(body, "job_number", 0, 1 << 62, 0),
        run=take_uuid(body, "run"),
        epoch=take_int(body, "epoch", 0, 1 << 62),
        pod=take_int(body, "pod", 0, POD_MAX),
        pods=_take_places(body),
        hostname=take_text(body, "hostname", _HOST),
        uid=take_int(body, "uid", 1, (1 << 32) - 2),
        gid=take_int(body, "gid", 1, (1 << 32) - 2),
        user=take_text(body, "user", _USER),
        mem_bytes=take_int(body, "mem_bytes", 0, 1 << 62, 0),
        cores=take_int(body, "cores", 0, 1 << 20, 0),
        ranks_per_pod=take_int(body, "ranks_per_pod", 1, 1 << 20, 1),
        env=_take_env(body.get("env")),
        workdir=str(take_path(body.get("workdir"), "workdir", absolute=True)),
        vni=take_int(body, "vni", 1, VNI_MAX - 1),
        mtu=take_int(body, "mtu", 576, 65_000, 1450),
        owner=take_owner(body.get("owner")),
    )
    if spec.pod not in {p.pod for p in spec.pods}:
        raise bad("pods does not name the pod itself")
    return spec
