"""Sealed messages between the control side and the nodes, and what is derived from a node's secret.

Owns: the envelope of docs/protocol.md (seal, open_sealed), the signature of a node's HTTP request
(sign_request, check_request) and the tickets with which one node reads another one's store (make_ticket,
check_ticket). Pure functions over text; knows no Django, no Celery, no file. Both sides import this module
and nothing else decides what is authentic.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import uuid
from typing import Any

FIELDS = frozenset({"node", "kind", "id", "sent_at", "body", "mac"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
REQUEST_SKEW_S = 300.0

TO_NODE = frozenset(
    [
        "start_pod",
        "restore_pod",
        "prefetch",
        "end_pod",
        "signal_pod",
        "freeze_pod",
        "thaw_pod",
        "snapshot_pod",
        "remove_images",
        "share_images",
        "unshare_images",
        "exec_pod",
        "lease",
        "keep_certificate",
    ]
)
TO_CONTROL = frozenset(["heartbeat", "pod", "cut", "snapshot", "restored", "images", "shared", "log", "files", "exec", "certificate"])


class EnvelopeError(Exception):
    """The message is not well formed, or not from whom it says."""


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, no NaN."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"the message is not plain JSON: {error}") from None


def _mac(secret: str, purpose: str, data: bytes) -> str:
    """`purpose` keeps a signature of one sort from being used as one of another sort."""
    if not secret:
        raise EnvelopeError("there is no secret to sign with")
    return hmac.new(secret.encode(), purpose.encode() + b"\0" + data, hashlib.sha256).hexdigest()


# ---- envelopes


def seal(
    node: str, secret: str, kind: str, body: dict[str, Any], *, id: str | None = None, sent_at: float | None = None
) -> dict[str, Any]:
    """Wrap `body` for or from `node`: {"node", "kind", "id", "sent_at", "body", "mac"}."""
    envelope: dict[str, Any] = {
        "node": node,
        "kind": kind,
        "id": id or str(uuid.uuid4()),
        "sent_at": time.time() if sent_at is None else sent_at,
        "body": body,
    }
    _check_shape({**envelope, "mac": ""})
    return {**envelope, "mac": _mac(secret, "envelope", canonical(envelope))}


def open_sealed(envelope: Any, secret: str, *, kinds: frozenset[str] | None = None) -> dict[str, Any]:
    """The envelope without its mac, once it is proven: {"node", "kind", "id", "sent_at", "body"}.

    Raises EnvelopeError when it is malformed, has a wrong mac, or its kind is not among `kinds`.
    """
    _check_shape(envelope)
    rest = {key: value for key, value in envelope.items() if key != "mac"}
    if not hmac.compare_digest(envelope["mac"].encode(), _mac(secret, "envelope", canonical(rest)).encode()):
        raise EnvelopeError(f"the mac of {envelope['kind']} from {envelope['node']} is wrong")
    if kinds is not None and envelope["kind"] not in kinds:
        raise EnvelopeError(f"{envelope['kind']} is not a kind that is taken here")
    return rest


def node_of(envelope: Any) -> str:
    """The node that an envelope claims to belong to, before it is proven (to find the secret)."""
    _check_shape(envelope)
    name: str = envelope["node"]
    return name


def _check_shape(envelope: Any) -> None:
    if not isinstance(envelope, dict) or set(envelope) != FIELDS:
        raise EnvelopeError("an envelope has exactly the fields " + ", ".join(sorted(FIELDS)))
    for field in ("node", "kind", "id", "mac"):
        if not isinstance(envelope[field], str):
            raise EnvelopeError(f"{field} is not text")
    if not NAME.match(envelope["node"]):
        raise EnvelopeError("the name of the node is not one")
    if not isinstance(envelope["body"], dict):
        raise EnvelopeError("the body is not an object")
    if isinstance(envelope["sent_at"], bool) or not isinstance(envelope["sent_at"], int | float):
        raise EnvelopeError("sent_at is not a number")
    try:
        uuid.UUID(envelope["id"])
    except ValueError:
        raise EnvelopeError("id is not a UUID") from None


# ---- HTTP requests of a node to the front end: three headers


HEADER_NODE = "X-ClusterOS-Node"
HEADER_DATE = "X-ClusterOS-Date"
HEADER_DIGEST = "X-ClusterOS-Content-SHA256"
HEADER_MAC = "X-ClusterOS-Mac"


def sign_request(
    node: str, secret: str, method: str, path: str, *, content_sha256: str = "", now: float | None = None
) -> dict[str, str]:
    """Headers that prove the request. `path` is what stands in the request line, query included."""
    date = str(int(time.time() if now is None else now))
    mac = _mac(secret, "request", canonical([node, date, method.upper(), path, content_sha256]))
    return {HEADER_NODE: node, HEADER_DATE: date, HEADER_DIGEST: content_sha256, HEADER_MAC: mac}


def check_request(
    secret: str, method: str, path: str, *, node: str, date: str, content_sha256: str, mac: str, now: float | None = None
) -> None:
    """Raise EnvelopeError unless the headers prove this request. The caller compares the content's digest."""
    try:
        sent_at = int(date)
    except ValueError:
        raise EnvelopeError("the date of the request is not a number") from None
    if abs((time.time() if now is None else now) - sent_at) > REQUEST_SKEW_S:
        raise EnvelopeError("the date of the request is too far from now")
    expected = _mac(secret, "request", canonical([node, date, method.upper(), path, content_sha256]))
    if not hmac.compare_digest(expected.encode(), mac.encode()):
        raise EnvelopeError("the mac of the request is wrong")


# ---- tickets: "ASKER:EXPIRY:MAC", signed with the *serving* node's secret


def make_ticket(serving_secret: str, asking_node: str, expires_at: float) -> str:
    """A pass for `asking_node` to read the store of the node that owns the secret, until `expires_at` (Unix)."""
    if not NAME.match(asking_node):
        raise EnvelopeError("the name of the asking node is not one")
    expiry = str(int(expires_at))
    return f"{asking_node}:{expiry}:{_mac(serving_secret, 'ticket', canonical([asking_node, expiry]))}"


def check_ticket(ticket: str, secret: str, *, now: float | None = None) -> str:
    """The node that may ask, or EnvelopeError."""
    parts = ticket.split(":")
    if len(parts) != 3 or not NAME.match(parts[0]) or not re.fullmatch(r"[0-9]{1,12}", parts[1]):
        raise EnvelopeError("the ticket is not well formed")
    asker, expiry, mac = parts
    if not hmac.compare_digest(mac.encode(), _mac(secret, "ticket", canonical([asker, expiry])).encode()):
        raise EnvelopeError("the ticket is not one of this node's")
    if (time.time() if now is None else now) > int(expiry):
        raise EnvelopeError("the ticket has expired")
    return asker
