"""Who holds which image: reports and inventories are noted, missing replicas are asked for, unneeded images removed.

Invariants: a replica counts only when its node holds the whole closure and is not lost. Only images that a failed or
deleted generation names are ever removed: what the record does not know is left alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from checkpoints.models import Generation, Replica, Snapshot
from checkpoints.services.certifying import certify_holder
from checkpoints.services.shared import ALIVE, counted, in_shared, is_expected, seers
from clusteros.core.dispatch import wake_scheduler
from clusteros.environment import environment
from clusteros.owners import owner_tag
from nodes.models import Command, Node
from nodes.outbox import ask, close

NEEDED = ("taking", "storing", "complete")
RETRY_S = 5.0
REMOVED = "is being removed"


def remove_key(digest: str, node: Node) -> str:
    return f"remove:{digest}:{node.name}"


def replicas_wanted() -> int:
    """As many as asked for, where there are nodes enough; one node alone holds one."""
    return max(1, min(environment().replicas, Node.objects.filter(state__in=counting_states()).count()))


def counting_states() -> tuple[str, ...]:
    """Replicas on a node that is being drained do not count, unless there is no other."""
    return ("up",) if Node.objects.filter(state="up").exists() else ("up", "draining")


def holders(digest: str) -> list[Node]:
    """Nodes, not lost, that hold the whole closure."""
    found = Node.objects.filter(replicas__digest=digest, replicas__complete=True, state__in=ALIVE)
    return list(found.distinct())


def holders_of(digests: Iterable[str]) -> dict[str, list[Node]]:
    """The same for many images, in one query."""
    found: dict[str, list[Node]] = {digest: [] for digest in digests}
    rows = Replica.objects.filter(digest__in=found, complete=True, node__state__in=ALIVE).select_related("node")
    for row in rows.order_by("node__name"):
        found[row.digest].append(row.node)
    return found


def is_restorable(digest: str) -> bool:
    """A node that is not lost holds it, or a directory that nodes share."""
    return bool(holders(digest)) or bool(in_shared([digest]))


def replicas_are_enough(digests: Iterable[str]) -> bool:
    wanted, different = replicas_wanted(), set(digests)
    shared = counted(different)
    return all(len(holders(digest)) + (digest in shared) >= wanted for digest in different)


def note_replica(digest: str, node: Node) -> None:
    close(remove_key(digest, node), "needed again")
    Replica.objects.update_or_create(digest=digest, node=node, defaults={"complete": True, "failed_words": ""})
    certify_holder(digest, node)


def record_images(node: Node, opened: dict[str, Any]) -> None:
    """Images that are now complete on a node, and those it could not get."""
    body = opened["body"]
    complete = {str(digest) for digest in body.get("digests") or []}
    failed = {str(item["digest"]): outcome_words(item) for item in body.get("failed") or []}
    for digest in complete:
        if Snapshot.objects.filter(digest=digest).exists():
            note_replica(digest, node)
    for digest, words in failed.items():
        Replica.objects.filter(digest=digest, node=node).update(complete=False, failed_words=words, since=timezone.now())
    unfit = {str(item["digest"]): outcome_words(item) for item in body.get("unfit") or []}
    _close_prefetches(node, complete, failed, unfit if body.get("fit") else None)
    complete_waiting(complete)
    wake_scheduler()


def outcome_words(item: dict[str, Any]) -> str:
    return f"{item.get('code') or 'IO'}: {item.get('message') or ''}"[:300]


def _close_prefetches(node: Node, complete: set[str], failed: dict[str, str], unfit: dict[str, str] | None) -> None:
    """`unfit`: held, but not to be brought back on this node, which matters to those alone who asked; None: nobody looked."""
    for row in Command.objects.filter(node=node, kind="prefetch", done_at=None):
        images, asked = set(row.body["images"]), bool(row.body.get("fit"))
        against = failed | (unfit or {}) if asked else failed
        words = next((against[digest] for digest in images if digest in against), "")
        if words or (images <= complete and (not asked or unfit is not None)):
            outcome = f"failed: {words}"[:200] if words else "ok"
            Command.objects.filter(pk=row.pk).update(done_at=timezone.now(), outcome=outcome)


def complete_waiting(digests: set[str]) -> None:
    from checkpoints.services.taking import complete_generation

    waiting = Generation.objects.filter(state="storing", snapshots__digest__in=digests).distinct()
    for generation in waiting.select_related("job__owner"):
        complete_generation(generation)


def record_image_inventory(node: Node, opened: dict[str, Any], answer: dict[str, Any]) -> None:
    """The images of a heartbeat: replicas that are there, and those that were and are gone."""
    if "images" not in opened["body"]:
        return
    listed = {str(item["digest"]) for item in opened["body"]["images"] or []}
    rows = {row.digest: row for row in Replica.objects.filter(node=node)}
    confirmed = [d for d in listed if d in rows and not (rows[d].complete and rows[d].in_inventory)]
    Replica.objects.filter(node=node, digest__in=confirmed).exclude(failed_words__gt="").update(
        complete=True, in_inventory=True
    )
    gone = [row.pk for digest, row in rows.items() if row.in_inventory and digest not in listed]
    Replica.objects.filter(pk__in=gone).delete()
    _close_removals(node, listed)
    unknown = listed - rows.keys()
    if unknown:
        known = Snapshot.objects.filter(digest__in=unknown, generation__state__in=NEEDED)
        for digest in known.values_list("digest", flat=True).distinct():
            note_replica(digest, node)
    if confirmed:
        complete_waiting(set(confirmed))


def ask_replicas_of(digest: str) -> None:
    """At once, when an image is stored: the generation waits for them."""
    _ask_for(digest, replicas_wanted(), timezone.now())


# ---- passes of the clock


def ask_missing_replicas(now: datetime.datetime, *states: str) -> int:
    """Ask nodes to fetch images of generations in these states that have fewer replicas than wanted: from each other, or, where every node
    that held one is lost, from a shared directory."""
    wanted = replicas_wanted()
    needed = Snapshot.objects.filter(generation__state__in=states, state="stored")
    digests = set(needed.values_list("digest", flat=True))
    return sum(_ask_for(digest, wanted, now) for digest in _short_of(digests, wanted))


def _short_of(digests: set[str], wanted: int) -> list[str]:
    good = Replica.objects.filter(digest__in=digests, complete=True, node__state__in=counting_states())
    counts = dict(good.values_list("digest").annotate(n=Count("id")))
    shared = counted(digests)
    return sorted(digest for digest in digests if counts.get(digest, 0) + (digest in shared) < wanted)


@transaction.atomic
def _ask_for(digest: str, wanted: int, now: datetime.datetime) -> int:
    rows = list(Replica.objects.filter(digest=digest).select_related("node"))
    have = [r.node for r in rows if r.complete and r.node.state in ALIVE]
    able = None if have else seers(digest)
    stale = now - datetime.timedelta(seconds=RETRY_S)
    tried = {r.node_id for r in rows if not r.complete and r.since > stale}  # type: ignore[attr-defined]
    pending = {r.node_id for r in rows if not r.complete and not r.failed_words}  # type: ignore[attr-defined]
    good = [node for node in have if node.state in counting_states()]
    missing = wanted - len(good) - len(pending) - is_expected(digest)
    targets = _targets({node.pk for node in have} | tried | pending, able)[: max(0, missing)]
    for node in targets:
        fetch_image(node, digest, [n.name for n in have], f"replica:{digest}:{node.name}:{int(now.timestamp())}", background=True)
    return len(targets)


def _targets(without: set[int], able: set[int] | None) -> list[Node]:
    """Nodes that may take a replica, the emptiest first; `able`: none but these can (no node holds it, a shared directory does)."""
    nodes = Node.objects.filter(state="up").exclude(pk__in=without)
    nodes = nodes if able is None else nodes.filter(pk__in=able)
    return list(nodes.annotate(n=Count("replicas")).order_by("n", "name"))


def fetch_image(
    node: Node, digest: str, sources: list[str], key: str, *, job: Any = None, fit: str = "", background: bool = False
) -> None:
    """Ask `node` to fetch and verify the closure of an image; with `fit` (a files_policy) also whether it could bring it back; in the
    background: within the node's bandwidth for replicas."""
    Replica.objects.get_or_create(digest=digest, node=node)
    Replica.objects.filter(digest=digest, node=node, complete=False).update(failed_words="", since=timezone.now())
    body = {"images": [digest], "sources": sources, "fit": fit, "background": background, "owner": owner_of(digest)}
    ask(node, "prefetch", key, body, job=job)


def owner_of(digest: str) -> str:
    """Whose memory the image holds, as nodes name it. A copy of a job belongs to the job's owner, so that all who name an image agree."""
    named = Snapshot.objects.filter(digest=digest).select_related("generation__job__owner").first()
    return owner_tag(named.generation.job.owner.username) if named else ""


def forget_lost_fetches() -> None:
    """A fetch by a node that is lost, or from nodes that all are: the row must not count as under way for ever."""
    Replica.objects.filter(complete=False, node__state="lost").delete()


def remove_unneeded_images() -> int:
    """Ask nodes to remove images that only failed or deleted generations name."""
    gone = Snapshot.objects.filter(generation__state__in=("failed", "deleted")).exclude(digest="")
    needed = Snapshot.objects.filter(generation__state__in=NEEDED).exclude(digest="")
    candidates = Replica.objects.filter(digest__in=gone.values("digest"), node__state__in=ALIVE)
    candidates = candidates.exclude(failed_words=REMOVED).exclude(digest__in=needed.values("digest"))
    by_node: dict[int, list[str]] = {}
    for row in candidates:
        by_node.setdefault(row.node_id, []).append(row.digest)  # type: ignore[attr-defined]
    for node in Node.objects.filter(pk__in=by_node):
        _remove(node, by_node[node.pk])
    return len(by_node)


@transaction.atomic
def _remove(node: Node, digests: list[str]) -> None:
    """Asked for until an inventory no longer lists the image; from now on nobody counts on it."""
    for digest in digests:
        row = ask(node, "remove_images", remove_key(digest, node), {"digests": [digest]})
        if row.done_at is not None:
            Command.objects.filter(pk=row.pk).update(done_at=None, next_send_at=timezone.now())
    doomed = Replica.objects.filter(node=node, digest__in=digests)
    doomed.update(complete=False, failed_words=REMOVED, in_inventory=True)


def _close_removals(node: Node, listed: set[str]) -> None:
    before = timezone.now() - datetime.timedelta(seconds=2 * environment().heartbeat_s)
    for row in Command.objects.filter(node=node, kind="remove_images", done_at=None, sent_at__lt=before):
        if not listed & set(row.body["digests"]):
            close(row.key, "gone")
