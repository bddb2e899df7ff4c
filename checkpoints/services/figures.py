"""The cluster in figures: samples for charts, taken by the clock and thinned when they are read; and what the store holds.

A sample is a few aggregates in SQL, whatever the size of the cluster.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils import timezone

from checkpoints.models import Generation, NodeSample, Sample
from checkpoints.services.shared import places_json
from clusteros.environment import environment
from jobs.models import POD_LIVE, Job, Pod
from nodes.models import Node

SAMPLE_EVERY_S = 15.0
KEEP_DAYS = 7
POINTS = 240
WAITING = ("queued", "held")
MOVING = ("starting", "running", "suspended", "restoring")
COLUMNS = ("nodes_up", "cores", "cores_used", "load", "mem_bytes", "mem_used_bytes", "running", "waiting", "generations", "store_bytes")
MOST_JOBS = 50
NODE_COLUMNS = ("load", "mem_used_bytes", "pods", "cores_used", "net_in_bytes_per_s", "net_out_bytes_per_s")
NODE_KEEP_DAYS = 2
MANY_NODES = 64
"""Of more nodes than these each is sampled once a minute only: 400 nodes make a million rows in two days."""
MANY_EVERY_S = 60.0


def take_sample(now: datetime.datetime) -> Sample:
    up = Node.objects.exclude(state="lost").aggregate(
        nodes_up=Count("id"), cores=Sum("cores"), load=Sum("load1"), mem_bytes=Sum("mem_bytes"),
        mem_used_bytes=Sum("mem_used_bytes"), store_bytes=Sum("store_bytes"),
    )  # fmt: skip
    jobs = Job.objects.filter(state__in=(*MOVING, *WAITING)).aggregate(
        running=Count("pk", Q(state__in=MOVING)), waiting=Count("pk", Q(state__in=WAITING))
    )
    used = Pod.objects.filter(state__in=POD_LIVE, run__state__in=("starting", "running")).aggregate(
        n=Sum(F("run__job__ranks_per_pod") * F("run__job__cores_per_rank"))
    )["n"]
    kept = Generation.objects.filter(state="complete").count()
    figures = {name: value or 0 for name, value in (up | jobs).items()}
    return Sample.objects.create(at=now, cores_used=used or 0, generations=kept, **figures)


SAMPLE_OF_NODES = """
INSERT INTO checkpoints_nodesample (node_id, at, load, mem_used_bytes, pods, cores_used, net_in_bytes_per_s, net_out_bytes_per_s)
SELECT n.id, %(now)s, n.load1, n.mem_used_bytes, count(p.id), coalesce(sum(j.ranks_per_pod * j.cores_per_rank), 0),
    n.net_in_bytes_per_s, n.net_out_bytes_per_s
FROM nodes_node n LEFT JOIN jobs_pod p ON p.node_id = n.id AND p.state = ANY(%(live)s)
    LEFT JOIN jobs_run r ON r.id = p.run_id LEFT JOIN jobs_job j ON j.id = r.job_id
WHERE n.state <> 'lost' GROUP BY n.id"""


def take_node_samples(now: datetime.datetime) -> bool:
    """One row for each node that is there, in one statement. False when many nodes were sampled less than a minute ago."""
    newest = NodeSample.objects.order_by("-at").values_list("at", flat=True).first()
    young = newest is not None and (now - newest).total_seconds() < MANY_EVERY_S - 1
    if young and Node.objects.exclude(state="lost").count() > MANY_NODES:
        return False
    with connection.cursor() as cursor:
        cursor.execute(SAMPLE_OF_NODES, {"now": now, "live": list(POD_LIVE)})
    return True


def forget_samples(now: datetime.datetime) -> None:
    Sample.objects.filter(at__lt=now - datetime.timedelta(days=KEEP_DAYS)).delete()
    NodeSample.objects.filter(at__lt=now - datetime.timedelta(days=NODE_KEEP_DAYS)).delete()


def read_node_samples(node: Node, hours: float, now: datetime.datetime | None = None) -> dict[str, list[float]]:
    """As read_samples, of one node."""
    return _columns("checkpoints_nodesample", NODE_COLUMNS, hours, now, "AND node_id = %s", [node.pk])


def read_samples(hours: float, now: datetime.datetime | None = None) -> dict[str, list[float]]:
    """Columns of figures over the last `hours`, thinned to POINTS means: {"at": Unix seconds, …}."""
    return _columns("checkpoints_sample", COLUMNS, hours, now)


def _columns(
    table: str, names: tuple[str, ...], hours: float, now: datetime.datetime | None, also: str = "", values: Sequence[Any] = ()
) -> dict[str, list[float]]:
    since = (now or timezone.now()) - datetime.timedelta(hours=hours)
    step_s = max(SAMPLE_EVERY_S, hours * 3600 / POINTS)
    means = ", ".join(f"avg({name})" for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT floor(extract(epoch FROM at) / %s) * %s AS bucket, {means} FROM {table} "
            f"WHERE at >= %s {also} GROUP BY bucket ORDER BY bucket",
            [step_s, step_s, since, *values],
        )
        rows = cursor.fetchall()
    columns = list(zip(*rows, strict=True)) or [() for _ in ("at", *names)]
    return {name: [round(float(v), 2) for v in column] for name, column in zip(("at", *names), columns, strict=True)}


def store_figures(jobs: QuerySet[Job], *, most_nodes: int = 10_000) -> dict[str, Any]:
    """What the images take: by node (everybody's; the fullest), and by those of `jobs` that take most."""
    nodes = Node.objects.annotate(images=Count("replicas", Q(replicas__complete=True))).order_by("-store_bytes", "name")[:most_nodes]
    complete = Generation.objects.filter(state="complete")
    if jobs.query.where:  # all jobs need no join with every one of them
        complete = complete.filter(job__in=jobs.order_by())
    total = complete.aggregate(generations=Count("pk"), bytes=Sum("bytes_new"), pinned=Count("pk", Q(pinned=True)))
    largest = complete.order_by().values("job").annotate(taken=Sum("bytes_new"), kept=Count("pk"), pinned=Count("pk", Q(pinned=True)))
    rows = list(largest.order_by("-taken", "job")[:MOST_JOBS])
    known = Job.objects.select_related("owner").in_bulk([row["job"] for row in rows])
    return {
        "generations": total["generations"], "bytes": total["bytes"] or 0, "pinned": total["pinned"],
        "quota_bytes": environment().store_quota_bytes,
        "shared": places_json(),
        "nodes": [
            {
                "name": n.name, "state": n.state, "store_bytes": n.store_bytes, "disk_free_bytes": n.disk_free_bytes,
                "images": n.images,  # type: ignore[attr-defined]
            }
            for n in nodes
        ],
        "jobs": [
            {
                "number": job.number, "name": job.name, "owner": job.owner.username, "state": job.state, "bytes": row["taken"] or 0,
                "generations": row["kept"], "pinned": row["pinned"],
            }
            for row in rows
            if (job := known.get(row["job"]))
        ],
    }  # fmt: skip
