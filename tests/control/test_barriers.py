"""Barriers on a real Redis: the watcher decides once all have come, survives an emptied Redis, gives up in time; and the
record made anew from certificates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from checkpoints import certificates
from checkpoints.barriers import Barrier, Watcher, client, cut_prefix, set_verdict
from checkpoints.certificates import check_certificate
from checkpoints.clock.passes import repeat_verdicts
from checkpoints.models import Generation, Replica, Resume, Snapshot
from checkpoints.services import take_generation
from checkpoints.services.rebuilding import rebuild_from
from clusteros.accounts.services import ensure_user
from clusteros.core.models import Event
from jobs.models import Job, LogChunk, Pod, Run
from jobs.services import release_job, submit_job
from nodes.agent import barrier as barrier_of_node
from nodes.models import Command
from tests.control.cluster import Nodes, digest_of, request


@pytest.fixture
def store(servers: None) -> Iterator[redis.Redis]:
    found = client()
    found.flushall()
    yield found
    found.close()


def barrier(decided: list[str], *, seconds: float = 20, prefix: str = "cut:x:1:") -> Barrier:
    def decide(wish: str) -> str:
        decided.append(wish)
        return wish

    return Barrier(prefix, "captured", 2, time.monotonic() + seconds, decide, lambda: None)


def verdict(store: redis.Redis, prefix: str = "cut:x:1:", seconds: float = 10) -> bytes | None:
    deadline = time.monotonic() + seconds
    while (found := store.get(prefix + "verdict")) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return found  # type: ignore[return-value]


@pytest.mark.django_db
def test_the_decision_is_written_before_the_verdict_and_only_when_all_have_come(store: redis.Redis) -> None:
    decided: list[str] = []
    watcher = Watcher()
    assert watcher.add(barrier(decided))
    assert not watcher.add(barrier(decided)), "it is watched already"
    store.sadd("cut:x:1:captured", 0)
    store.sadd("cut:x:1:captured", 0)
    time.sleep(0.2)
    assert decided == [], "the same pod twice is one pod"
    store.sadd("cut:x:1:captured", 1)
    assert verdict(store) == b"go"
    assert decided == ["go"]
    assert 0 < store.ttl("cut:x:1:verdict") <= 300


@pytest.mark.django_db
def test_an_emptied_redis_heals_when_the_pods_write_again(store: redis.Redis) -> None:
    decided: list[str] = []
    Watcher().add(barrier(decided))
    store.sadd("cut:x:1:captured", 0)
    store.flushall()
    store.sadd("cut:x:1:captured", 0, 1)
    assert verdict(store) == b"go"


@pytest.mark.django_db
def test_a_barrier_that_not_all_reach_is_given_up_at_its_deadline(store: redis.Redis) -> None:
    decided: list[str] = []
    Watcher().add(barrier(decided, seconds=0.3))
    store.sadd("cut:x:1:captured", 0)
    assert verdict(store) == b"abort"


@pytest.mark.django_db
def test_a_verdict_that_was_lost_with_redis_is_said_again(store: redis.Redis, nodes: Nodes) -> None:
    from django.utils import timezone

    generation = take_generation(nodes.run_job())
    nodes.go(generation)
    prefix = cut_prefix(generation.pk, generation.epoch)
    set_verdict(store, prefix, "go")
    store.flushall()
    repeat_verdicts(nodes.clock, timezone.now())
    assert store.get(prefix + "verdict") == b"go"


# ---- those who wait, on the nodes


def member(store: redis.Redis, number: int, seconds: float = 10) -> barrier_of_node.Barrier:
    return barrier_of_node.Barrier(store, "cut:y:1:", number, time.monotonic() + seconds)


def test_all_hear_it_when_the_last_one_comes(store: redis.Redis) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(member(client(), number).all_in, "captured", 3, bell="came") for number in (0, 1)]
        time.sleep(0.1)
        assert not any(one.done() for one in waiting), "the third has not come"
        assert member(store, 2).all_in("captured", 3, bell="came")
        assert [one.result(5) for one in waiting] == [True, True]
    assert store.llen("cut:y:1:came") == 3, "the control side hears of each"


def test_a_verdict_ends_the_wait_of_those_who_come_in_vain(store: redis.Redis) -> None:
    set_verdict(store, "cut:y:1:", "abort")
    assert not member(store, 0).all_in("captured", 2)
    assert not member(store, 1, seconds=0).all_in("captured", 2)


def test_who_comes_back_to_an_emptied_set_hears_what_was_decided(store: redis.Redis) -> None:
    set_verdict(store, "cut:y:1:", "go")
    assert member(store, 0).all_in("captured", 2)


def test_who_is_alone_waits_for_nobody() -> None:
    nowhere = redis.Redis(host="127.0.0.1", port=1)
    alone = member(nowhere, 0)
    assert alone.all_in("captured", 1)
    alone.enter("captured", "came")


# ---- certificates


def forget_everything() -> None:
    """The database is lost; nodes have joined again."""
    for model in (Resume, Snapshot, Generation, LogChunk, Pod, Run, Command, Event, Job):
        model.objects.all().delete()


@pytest.mark.django_db
def test_the_record_is_made_anew_from_certificates_and_the_job_comes_back(nodes: Nodes) -> None:
    job = nodes.run_job(interval_s=60)
    made = [nodes.generation(job) for _ in range(2)]
    found = {"node1": [Generation.objects.get(pk=g.pk).certificate for g in made]}
    assert Command.objects.filter(kind="keep_certificate").exists()
    forget_everything()
    for pods in nodes.pods.values():
        pods.clear()
    assert rebuild_from(found) == {"jobs": 1, "generations": 2, "refused": 0}
    assert rebuild_from(found) == {"jobs": 0, "generations": 0, "refused": 0}, "twice changes nothing"
    again = Job.objects.get(number=job.number)
    assert (again.pk, again.state, again.resume_from, again.epoch, again.interval_s) == (job.pk, "held", 2, 1, 60)
    assert Generation.objects.get(job=again, number=2).parent.number == 1  # type: ignore[union-attr]
    assert Snapshot.objects.get(generation=made[1].pk, pod=1).digest == digest_of(made[1], 1)
    nodes.beat()
    release_job(again)
    nodes.tick()
    nodes.finish(Resume.objects.get(job=again))
    again.refresh_from_db()
    assert (again.state, again.epoch) == ("running", 2)


@pytest.mark.django_db
def test_a_job_made_anew_whose_number_was_given_again_gets_another(nodes: Nodes) -> None:
    job = nodes.run_job(interval_s=60)
    certificate = Generation.objects.get(pk=nodes.generation(job).pk).certificate
    forget_everything()
    owner = ensure_user("bob")
    meanwhile = submit_job(owner, request())
    Job.objects.filter(pk=meanwhile.pk).update(number=job.number)
    assert rebuild_from({"node1": [certificate]})["jobs"] == 1
    again = Job.objects.get(pk=job.pk)
    assert again.number not in (job.number, meanwhile.number)
    assert f"it was job {job.number}" in Event.objects.get(kind="job.rebuilt").words
    assert submit_job(owner, request()).number > again.number


@pytest.mark.django_db
def test_a_certificate_is_asked_for_until_it_is_kept_and_of_later_holders_too(nodes: Nodes) -> None:
    generation = nodes.generation(nodes.run_job())
    first = nodes.asked("keep_certificate")
    assert {row.node.name for row in first} == set(Replica.objects.filter(complete=True).values_list("node__name", flat=True))
    for row in first:
        nodes.report(row.node.name, "certificate", {"generation": str(generation.pk)})
    assert not nodes.asked("keep_certificate")
    digest = digest_of(generation, 0)
    later = next(name for name in nodes.pods if not Replica.objects.filter(node__name=name, digest=digest).exists())
    Command.objects.filter(kind="keep_certificate").delete()
    nodes.report(later, "images", {"digests": [digest], "failed": []})
    (row,) = nodes.asked("keep_certificate")
    assert (row.node.name, row.body["generation"], digest in row.body["digests"]) == (later, str(generation.pk), True)
    check_certificate(row.body["certificate"])


@pytest.mark.django_db
def test_a_certificate_of_an_older_version_makes_a_job_that_keeps_the_last(nodes: Nodes) -> None:
    job = nodes.run_job(keep_every=10, keep_per="day")
    content = dict(check_certificate(Generation.objects.get(pk=nodes.generation(job).pk).certificate))
    content["job"] = {name: value for name, value in content["job"].items() if not name.startswith("keep_")}
    forget_everything()
    assert rebuild_from({"node1": [{**content, "signature": certificates._sign(content)}]})["jobs"] == 1
    again = Job.objects.get(pk=job.pk)
    assert (again.keep, again.keep_every, again.keep_per) == (job.keep, 0, "")


@pytest.mark.django_db
def test_a_changed_certificate_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of every image: a forged one has another digest, and no certificate can be made for that without the cluster's key."""
    generation = nodes.generation(nodes.run_job())
    certificate = Generation.objects.get(pk=generation.pk).certificate
    assert check_certificate(certificate)["generation"]["number"] == 1
    other_image = [{**pod, "digest": "e" * 64} for pod in certificate["pods"]]
    mallory = {**certificate["job"], "owner": "mallory"}
    for changed in ({**certificate, "job": mallory}, {**certificate, "pods": other_image}, {}, None, {"signature": "00"}):
        with pytest.raises(ValueError, match=r"signature|certificate"):
            check_certificate(changed)
    assert rebuild_from({"node1": [{**certificate, "pods": []}]})["refused"] == 1
    content = {name: value for name, value in certificate.items() if name != "signature"} | {"pods": other_image}
    with monkeypatch.context() as other_cluster:
        other_cluster.setattr(certificates, "cluster_key", lambda: b"k" * 32)
        forged = {**content, "signature": certificates._sign(content)}
        assert check_certificate(forged)["pods"] == other_image
    assert rebuild_from({"node1": [forged]}) == {"jobs": 0, "generations": 0, "refused": 1}
