"""What lies in directories that nodes share: asked of the record, for whoever counts replicas or looks for a way back.

Only a place counts that some node sees now. `CLUSTEROS_SHARED_COUNTS`: a whole image there stands for one of the replicas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Q, QuerySet

from checkpoints.models import SharedImage, SharedMount, SharedPlace
from clusteros.environment import environment
from nodes.models import Node

ALIVE = ("up", "draining", "drained")


def reachable() -> QuerySet[SharedPlace]:
    return SharedPlace.objects.filter(mounts__ok=True, mounts__node__state__in=ALIVE).distinct()


def in_shared(digests: Iterable[str]) -> set[str]:
    """Of these images those that are whole in a place that is seen now."""
    found = SharedImage.objects.filter(digest__in=set(digests), complete=True, place__in=reachable())
    return set(found.values_list("digest", flat=True))


def seers(digest: str) -> set[int]:
    """Nodes (their keys) that see a place where the image is whole: they need no other node to fetch it from."""
    places = SharedImage.objects.filter(digest=digest, complete=True).values("place")
    return set(Node.objects.filter(mount__place__in=places, mount__ok=True, state__in=ALIVE).values_list("pk", flat=True))


def counted(digests: Iterable[str]) -> set[str]:
    """Those for which a shared directory stands for a replica."""
    return in_shared(digests) if environment().shared_counts else set()


def is_expected(digest: str) -> bool:
    """A shared directory stands for a replica of this image, or is about to."""
    if not environment().shared_counts:
        return False
    failed = SharedImage.objects.filter(digest=digest, complete=False).exclude(failed_words="").values("place")
    return reachable().exclude(pk__in=failed).exists()


def places_json() -> list[dict[str, Any]]:
    """Every place that a node names: who sees it, what it holds, or why it cannot be seen."""
    places = SharedPlace.objects.filter(mounts__isnull=False).annotate(held=Count("images", Q(images__complete=True), distinct=True))
    found = [_place_json(place) for place in places.distinct()]
    return found + [_blind_json(mount) for mount in SharedMount.objects.filter(place=None, node__state__in=ALIVE).select_related("node")]


def _place_json(place: SharedPlace) -> dict[str, Any]:
    mounts = list(place.mounts.select_related("node").order_by("node__name"))  # type: ignore[attr-defined]
    seeing = [m.node.name for m in mounts if m.ok and m.node.state in ALIVE]
    return {
        "directory": place.directory, "id": place.pk, "ok": bool(seeing), "nodes": seeing, "images": place.held,  # type: ignore[attr-defined]
        "bytes": place.bytes, "free_bytes": place.free_bytes, "words": _words(mounts),
    }  # fmt: skip


def _blind_json(mount: SharedMount) -> dict[str, Any]:
    nothing = {"id": "", "ok": False, "nodes": [], "images": 0, "bytes": 0, "free_bytes": 0}
    return {**nothing, "directory": mount.directory, "words": _words([mount])}


def _words(mounts: list[SharedMount]) -> str:
    said = [f"{m.node.name}: {m.words}" for m in mounts if not m.ok] + [f"{m.node.name} is lost" for m in mounts if _is_lost(m.node)]
    return "; ".join(said)


def _is_lost(node: Node) -> bool:
    return node.state not in ALIVE
