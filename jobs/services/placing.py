"""From queued to starting: room on nodes, the rows of a run, and what is sent to start it.

Pod 0 runs the job's command and is started last, when the others run: their remote execution servers are there then.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from clusteros.accounts.services import profile_of
from clusteros.core.problems import Problem
from clusteros.core.states import lock, move
from clusteros.owners import owner_tag
from jobs.models import POD_LIVE, Job, Pod, Run
from nodes.models import Node
from nodes.outbox import ask
from nodes.placement import NodeRoom, PodRequest, Refusal, fits_empty, place

MTU = 1450


def room_of_nodes(*, without_job: Job | None = None, also: tuple[str, ...] = ()) -> list[NodeRoom]:
    """What is free on the nodes that take pods; the pods of `without_job` count as gone. `also`: further states."""
    nodes = Node.objects.filter(state__in=("up", *also)).exclude(last_heartbeat=None)
    live = Pod.objects.filter(state__in=POD_LIVE).exclude(run__job__state__in=("completed", "failed", "cancelled"))
    if without_job is not None:
        live = live.exclude(run__job=without_job)
    rows = live.order_by().values("node").annotate(
        cores=Sum(F("run__job__ranks_per_pod") * F("run__job__cores_per_rank")), memory=Sum("run__job__mem_bytes")
    ).values_list("node", "cores", "memory")  # fmt: skip
    taken = {node: (cores, memory) for node, cores, memory in rows}
    return [_room(node, *taken.get(node.pk, (0, 0))) for node in nodes]


def _room(node: Node, cores: int, memory: int) -> NodeRoom:
    return NodeRoom(node.name, node.cores, node.mem_bytes, node.cores - cores, node.mem_bytes - memory)


def request_of(job: Any, wanted: dict[str, str] | None = None) -> PodRequest:
    cores = job.ranks_per_pod * job.cores_per_rank
    wishes = {int(pod): name for pod, name in (wanted or {}).items()}
    return PodRequest(job.pods, cores, job.mem_bytes, policy=job.placement, wanted=wishes)


class PossibleSizes:
    """What the known nodes could hold if nothing ran: asked once, for any number of requests."""

    def __init__(self) -> None:
        self._nodes = [_room(node, 0, 0) for node in Node.objects.exclude(state__in=("drained",))]
        self._refusals: dict[tuple[int, int, int], Refusal | None] = {}

    def check(self, request: Any) -> None:
        """Problem NO_ROOM when the nodes could not hold the job even if nothing else ran."""
        pod = request_of(request)
        size = (pod.pods, pod.cores, pod.mem_bytes)
        if size not in self._refusals:
            self._refusals[size] = fits_empty(self._nodes, pod)
        refusal = self._refusals[size]
        if refusal is not None:
            raise Problem("NO_ROOM", refusal.words)
        for name in request.nodes:
            if name not in {node.name for node in self._nodes}:
                raise Problem("INVALID", f"nodes: there is no node {name!r}", field="nodes")


def place_queued(job: Job) -> bool:
    """Place and start a queued job that begins from its start. False (and the reason noted) when there is no room."""
    answer = place(room_of_nodes(), request_of(job, job.wanted_nodes))
    if isinstance(answer, Refusal):
        note_waiting(job, answer.words)
        return False
    place_run(job, answer)
    return True


def note_waiting(job: Job, words: str) -> None:
    if job.waiting_because != words:
        Job.objects.filter(pk=job.pk).update(waiting_because=words)
        job.waiting_because = words


@transaction.atomic
def place_run(job: Job, placement: dict[int, str], words: str = "") -> Run:
    """queued → starting: a run of a new epoch with its pods, and the commands that start them."""
    lock(job)
    run = make_run(job, placement)
    move(job, "starting", words or _words(placement), waiting_because="", started_at=job.started_at or timezone.now())
    start_run(run)
    return run


def make_run(job: Job, placement: dict[int, str], **values: Any) -> Run:
    """The rows of a run; the job's epoch grows. The caller holds the job's lock and moves it."""
    epoch = job.epoch + 1
    Job.objects.filter(pk=job.pk).update(epoch=epoch, exit_status=None, reason="", ended_at=None)
    job.epoch = epoch
    run = Run.objects.create(job=job, epoch=epoch, **values)
    nodes = {node.name: node for node in Node.objects.filter(name__in=set(placement.values()))}
    marks = values.get("log_marks") or {}
    Pod.objects.bulk_create(
        Pod(
            run=run, index=index, node=nodes[name],
            stdout_bytes=int(marks.get(str(index), {}).get("stdout") or 0),
            stderr_bytes=int(marks.get(str(index), {}).get("stderr") or 0),
        )
        for index, name in placement.items()
    )  # fmt: skip
    return run


def start_run(run: Run) -> None:
    """Ask for what may be started now; idempotent, so it is called whenever a pod of a starting run has changed."""
    pods = list(run.pods.select_related("node", "run__job__owner"))  # type: ignore[attr-defined]
    others_run = all(pod.state != "placed" and pod.state != "starting" for pod in pods if pod.index)
    for pod in pods:
        if pod.state == "placed" and (pod.index or others_run):
            ask(pod.node, "start_pod", start_key(run, pod.index), start_body(run, pod, pods), job=run.job_id)


def start_key(run: Run, index: int) -> str:
    return f"start:{run.pk}:{index}"


def start_body(run: Run, pod: Pod, pods: list[Pod]) -> dict[str, Any]:
    job = run.job
    files = [
        {
            "path": item.path, "url": f"/api/v1/agent/jobfiles/{job.pk}/{item.sha256}", "sha256": item.sha256,
            "size": item.size_bytes, "executable": item.executable,
        }
        for item in job.job_files.all()
    ]  # fmt: skip
    first = pod.index == 0  # the others wait for what pod 0 starts in them
    work = {"command": job.command if first else None, "script": (job.script or None) if first else None}
    return pod_spec(run, pod, pods) | work | {"files": files}


def pod_spec(run: Run, pod: Pod, pods: list[Pod]) -> dict[str, Any]:
    """The pod spec of docs/protocol.md."""
    job, profile = run.job, profile_of(run.job.owner)
    return {
        "job": str(job.pk), "job_number": job.number, "run": str(run.pk), "epoch": run.epoch, "pod": pod.index,
        "pods": [
            {"pod": p.index, "node": p.node.name, "underlay_ip": p.node.address, "ip": pod_ip(p.index)} for p in pods
        ],
        "hostname": f"pod-{pod.index}", "uid": profile.uid, "gid": profile.gid, "user": user_name(job.owner),
        "mem_bytes": job.mem_bytes, "cores": job.pod_cores, "ranks_per_pod": job.ranks_per_pod, "env": job.env,
        "workdir": job.workdir, "vni": run.network, "mtu": MTU, "owner": owner_tag(job.owner.username),
    }  # fmt: skip


def pod_ip(index: int) -> str:
    return f"10.77.{(index + 1) >> 8}.{(index + 1) & 255}"


def user_name(user: Any) -> str:
    """The account's name inside the pod: what a Unix account may be called."""
    kept = "".join(c for c in user.username if c.isascii() and (c.isalnum() or c in "_-."))[:32]
    return kept if kept and (kept[0].isalpha() or kept[0] == "_") else f"u{user.pk}"


def _words(placement: dict[int, str]) -> str:
    return "on " + ", ".join(sorted(set(placement.values())))

