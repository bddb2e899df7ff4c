"""Images into the directories that nodes share, and out of them: who is asked, what was reported.

Invariants: what is known of a place stays while nobody sees it, and while one node's look at it may be older than the last word; only
images that a failed or deleted generation names, and no other, are ever taken out. A node with a copy of its own writes; any node that
sees the place removes.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from checkpoints.models import SharedImage, SharedMount, SharedPlace, Snapshot
from checkpoints.services.replicas import NEEDED, REMOVED, complete_waiting, holders, outcome_words, owner_of
from checkpoints.services.shared import ALIVE, reachable
from clusteros.core.dispatch import wake_scheduler
from nodes.models import Command, Node
from nodes.outbox import ask, close

RETRY_S, PENDING_S = 30.0, 1800.0
CACHE_S = 120.0
"""A file server's client may show a directory as it was so long ago."""
MOST_AT_ONCE = 200


def share_key(place: SharedPlace, digest: str) -> str:
    return f"share:{place.pk}:{digest}"


def unshare_key(place: SharedPlace, digest: str) -> str:
    return f"unshare:{place.pk}:{digest}"


# ---- what nodes say


def record_shared_view(node: Node, opened: dict[str, Any], answer: dict[str, Any]) -> None:
    """What a heartbeat tells of the node's shared directory. That it has none any more, a service's first one tells (with `doctor`)."""
    told = opened["body"].get("shared")
    if told is None:
        if opened["body"].get("doctor"):
            SharedMount.objects.filter(node=node).delete()
        return
    place = _note_place(str(told.get("id") or "")[:64], told)
    values = {"place": place, "directory": str(told.get("directory"))[:300], "ok": told.get("ok") is True and place is not None}
    values |= {"words": str(told.get("words") or "")[:300]}
    if not SharedMount.objects.filter(node=node, **values).exists():
        SharedMount.objects.update_or_create(node=node, defaults=values)
        wake_scheduler()
    if place is not None and values["ok"] and told.get("images") is not None:
        _compare(place, {str(digest) for digest in told["images"]}, timezone.now())


def _note_place(identity: str, told: dict[str, Any]) -> SharedPlace | None:
    if not identity:
        return None
    place, _ = SharedPlace.objects.get_or_create(pk=identity, defaults={"directory": str(told.get("directory"))[:300]})
    figures = {name: int(told.get(name) or 0) for name in ("bytes", "free_bytes")}
    if told.get("ok") is True and figures != {"bytes": place.bytes, "free_bytes": place.free_bytes}:
        SharedPlace.objects.filter(pk=place.pk).update(**figures)
    return place


@transaction.atomic
def _compare(place: SharedPlace, listed: set[str], now: datetime.datetime) -> None:
    rows = {row.digest: row for row in SharedImage.objects.filter(place=place)}
    before = now - datetime.timedelta(seconds=CACHE_S)
    for digest in rows.keys() - listed:
        row = rows[digest]
        if row.failed_words == REMOVED or (row.complete and row.since < before):
            row.delete()
            close(unshare_key(place, digest), "gone")
    unknown = listed - {digest for digest, row in rows.items() if row.complete or row.failed_words == REMOVED}
    named = Snapshot.objects.filter(digest__in=unknown).values_list("digest", flat=True)
    for digest in set(named):
        _note_there(place, digest)


def _note_there(place: SharedPlace, digest: str) -> None:
    now = timezone.now()
    SharedImage.objects.update_or_create(digest=digest, place=place, defaults={"complete": True, "failed_words": "", "since": now})
    close(share_key(place, digest), "ok")
    complete_waiting({digest})


def record_shared(node: Node, opened: dict[str, Any]) -> None:
    """Images that a node wrote into its shared directory, or took out, and those it could not."""
    body = opened["body"]
    place = SharedPlace.objects.filter(pk=str(body.get("place") or "")).first()
    if place is None:
        raise ValueError("no such place is known")
    failed = {str(item["digest"]): outcome_words(item) for item in body.get("failed") or []}
    done = [str(digest) for digest in body.get("images") or []]
    if body.get("act") == "share":
        for digest in done:
            _note_there(place, digest)
        for digest, words in failed.items():
            SharedImage.objects.filter(digest=digest, place=place, complete=False).update(failed_words=words, since=timezone.now())
            close(share_key(place, digest), f"failed: {words}")
    else:
        SharedImage.objects.filter(place=place, digest__in=done, failed_words=REMOVED).delete()
        for digest in [*done, *failed]:
            close(unshare_key(place, digest), f"failed: {failed[digest]}" if digest in failed else "ok")
    wake_scheduler()


# ---- passes of the clock


def share_missing_images(now: datetime.datetime) -> int:
    """Ask who holds an image and sees a place that lacks it to write it there."""
    return sum(_share_missing(place, now) for place in reachable())


def _share_missing(place: SharedPlace, now: datetime.datetime) -> int:
    wanted = Snapshot.objects.filter(generation__state__in=("storing", "complete"), state="stored")
    rested, given_up = now - datetime.timedelta(seconds=RETRY_S), now - datetime.timedelta(seconds=PENDING_S)
    rows = SharedImage.objects.filter(place=place)
    settled = rows.filter(complete=True) | rows.exclude(failed_words="").filter(since__gt=rested)
    settled |= rows.filter(failed_words="", since__gt=given_up)
    missing = wanted.exclude(digest__in=settled.values("digest")).order_by("-generation__taken_at").values_list("digest", flat=True)
    return sum(_ask_to_share(place, digest, now) for digest in list(dict.fromkeys(missing))[:MOST_AT_ONCE])


@transaction.atomic
def _ask_to_share(place: SharedPlace, digest: str, now: datetime.datetime) -> bool:
    close(unshare_key(place, digest), "needed again")
    seeing = set(_seeing(place).values_list("pk", flat=True))
    node = next((node for node in holders(digest) if node.pk in seeing), None)
    if node is None:
        return False
    SharedImage.objects.update_or_create(digest=digest, place=place, defaults={"complete": False, "failed_words": "", "since": now})
    _ask_anew(node, "share_images", share_key(place, digest), {"images": [digest], "place": place.pk, "owner": owner_of(digest)}, now)
    return True


def _seeing(place: SharedPlace) -> Any:
    return Node.objects.filter(mount__place=place, mount__ok=True, state__in=ALIVE).order_by("name")


def _ask_anew(node: Node, kind: str, key: str, body: dict[str, Any], now: datetime.datetime) -> None:
    """The one command of this key: to this node from now on, whoever was asked before."""
    row = ask(node, kind, key, body)
    if row.done_at is not None or row.node_id != node.pk:  # type: ignore[attr-defined]
        Command.objects.filter(pk=row.pk).update(node=node, body=body, done_at=None, outcome="", sent_count=0, next_send_at=now)


def take_out_unneeded_images(now: datetime.datetime) -> int:
    """Ask one who sees the place to take out images that only failed or deleted generations name."""
    return sum(_take_out(place, now) for place in reachable())


@transaction.atomic
def _take_out(place: SharedPlace, now: datetime.datetime) -> int:
    gone = Snapshot.objects.filter(generation__state__in=("failed", "deleted")).exclude(digest="").values("digest")
    needed = Snapshot.objects.filter(generation__state__in=NEEDED).exclude(digest="").values("digest")
    node = _seeing(place).first()
    doomed = SharedImage.objects.filter(place=place, digest__in=gone).exclude(digest__in=needed)
    asked = Command.objects.filter(kind="unshare_images", done_at=None, node__state__in=ALIVE).values_list("key", flat=True)
    open_keys = set(asked)
    going = [row.digest for row in doomed[:MOST_AT_ONCE] if unshare_key(place, row.digest) not in open_keys] if node else []
    for digest in going:
        close(share_key(place, digest), "not needed any more")
        _ask_anew(node, "unshare_images", unshare_key(place, digest), {"images": [digest], "place": place.pk}, now)
    SharedImage.objects.filter(place=place, digest__in=going).update(complete=False, failed_words=REMOVED)
    return len(going)
