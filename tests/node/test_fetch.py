"""Images from node to node: tickets, several sources, flipped bytes, nothing kept that was not checked."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from clusteros.envelope import make_ticket
from native.engine import Engine, EngineError
from nodes.agent import closures, prefetching, traffic
from nodes.agent.agent import Agent
from nodes.agent.config import NodeConfig
from nodes.agent.service import make_agent
from nodes.agent.storeserver import StoreServer
from nodes.agent.watcher import Watcher
from tests.node.harness import wait_for

FAR_FUTURE = 4_000_000_000.0
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="making a pod needs root"), pytest.mark.timeout(240)]


class Peer:
    """A node's store and its server, without the rest of the service."""

    def __init__(self, folder: Path, name: str) -> None:
        self.sent: list[dict[str, Any]] = []
        config = NodeConfig(folder, name, f"secret of {name}", "http://127.0.0.1:1", "redis://x", "127.0.0.1", 0, 1, 1 << 30)
        config.save()
        self.agent: Agent = make_agent(config, self.sent.append, Engine())
        self.server = StoreServer(self.agent)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.stop()
        self.agent.runner.stop()

    def source_for(self, asker: Peer, *, url: str | None = None) -> dict[str, str]:
        ticket = make_ticket(self.agent.config.secret, asker.agent.config.name, FAR_FUTURE)
        return {"node": self.agent.config.name, "url": url or self.url, "ticket": ticket}

    def store_files(self) -> list[Path]:
        return [p for p in sorted(self.agent.images.root.rglob("store/**/*")) if p.is_file() and p.stat().st_size > 100]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(state folder, digest) of a node that took a snapshot of a small pod."""
    folder = tmp_path_factory.mktemp("origin")
    engine, pod, state = Engine(), folder / "pod", folder / "state"
    peer = Peer(state, "origin")
    text = "import os,time; data=os.urandom(3<<20); print(1,flush=True); time.sleep(600)"
    engine.call("run", "--pod", pod, "--uid", "20000", "--gid", "20000", "--", "/usr/bin/python3", "-c", text)
    taking = peer.agent.images.taking("x")
    try:
        store = peer.agent.images.of("").store
        done = engine.call("snapshot", "--pod", pod, "--image", taking, "--store", store, "--then", "kill", timeout_s=60)
    finally:
        subprocess.run([engine.binary, "kill", "--pod", pod], capture_output=True, check=False)
    digest = peer.agent.images.adopt(taking, bytes=done["bytes"])
    peer.stop()
    return state, digest


@pytest.fixture
def peers(tmp_path: Path, image: tuple[Path, str]) -> Iterator[dict[str, Peer]]:
    """Two that hold the image, one that wants it."""
    found: dict[str, Peer] = {}
    for name in ("first", "second"):
        shutil.copytree(image[0], tmp_path / name)
        found[name] = Peer(tmp_path / name, name)
    found["asker"] = Peer(tmp_path / "asker", "asker")
    yield found
    for peer in found.values():
        peer.stop()


def flip(path: Path, seed: int) -> None:
    """One bit of one byte somewhere in the second half of the file."""
    data = bytearray(path.read_bytes())
    where = random.Random(seed).randrange(len(data) // 2, len(data) * 3 // 4)
    print(f"seed {seed}: byte {where} of {path}")
    data[where] ^= 0x10
    path.write_bytes(data)


def fetch(peers: dict[str, Peer], digest: str, *names: str) -> None:
    asker = peers["asker"]
    prefetching.make_sure(asker.agent, digest, [peers[name].source_for(asker) for name in names])


def is_whole(peer: Peer, digest: str) -> bool:
    try:
        prefetching.verify(peer.agent, digest)
    except EngineError:
        return False
    return peer.agent.images.has(digest)


def test_an_image_is_fetched_whole_and_verified(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    assert is_whole(peers["asker"], image[1])
    assert peers["asker"].agent.images.inventory()[0]["bytes"] > 3 << 20


def test_an_image_that_is_here_is_not_fetched_again(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    peers["first"].server.stop()
    fetch(peers, image[1], "first")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flipped_byte_is_found_and_the_next_source_serves(peers: dict[str, Peer], image: tuple[Path, str], seed: int) -> None:
    largest = max(peers["first"].store_files(), key=lambda p: p.stat().st_size)
    flip(largest, seed)
    fetch(peers, image[1], "first", "second")
    assert is_whole(peers["asker"], image[1])


def test_a_flipped_byte_everywhere_is_refused_with_the_reason(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    for name in ("first", "second"):
        flip(max(peers[name].store_files(), key=lambda p: p.stat().st_size), 7)
    with pytest.raises(EngineError) as caught:
        fetch(peers, image[1], "first", "second")
    assert caught.value.code.name in ("BAD_IMAGE", "IO", "PROTOCOL")
    assert "second" in caught.value.message
    assert peers["asker"].agent.images.inventory() == []


def test_a_changed_manifest_is_refused(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    flip(peers["first"].agent.images.path(image[1]) / "manifest", 3)
    fetch(peers, image[1], "first", "second")
    assert is_whole(peers["asker"], image[1])


def test_a_damaged_image_of_ones_own_is_healed_from_a_replica(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    flip(max(peers["asker"].store_files(), key=lambda p: p.stat().st_size), 5)
    assert not is_whole(peers["asker"], image[1])
    fetch(peers, image[1], "second")
    assert is_whole(peers["asker"], image[1])


def test_what_a_running_job_waits_for_is_mended_in_its_place(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    asker = peers["asker"]
    flip(max(asker.store_files(), key=lambda p: p.stat().st_size), 5)
    assert not is_whole(asker, image[1])  # and forgets what is damaged
    prefetching.mend(asker.agent, image[1], [peers["first"].source_for(asker), peers["second"].source_for(asker)])
    assert is_whole(asker, image[1])


def test_what_nobody_has_is_not_mended(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    flip(max(peers["asker"].store_files(), key=lambda p: p.stat().st_size), 5)
    assert not is_whole(peers["asker"], image[1])
    with pytest.raises(EngineError):
        prefetching.mend(peers["asker"].agent, image[1], [])


def test_a_damaged_image_without_a_replica_is_not_held_any_more(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    fetch(peers, image[1], "first")
    flip(max(peers["asker"].store_files(), key=lambda p: p.stat().st_size), 5)
    with pytest.raises(EngineError) as caught:
        fetch(peers, image[1])
    assert caught.value.code.name == "BAD_IMAGE"
    assert peers["asker"].agent.images.inventory() == []


def test_a_dead_source_is_passed_over(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    peers["first"].server.stop()
    fetch(peers, image[1], "first", "second")
    assert is_whole(peers["asker"], image[1])


def test_what_one_source_gave_is_not_fetched_again_from_the_next(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    asker = peers["asker"]
    making, store = asker.agent.images.fetching(image[1]), asker.agent.images.of("").store
    shutil.copy(peers["first"].agent.images.path(image[1]) / "manifest", making)
    needed = [name for name, _ in closures.chunk_list(asker.agent, making)]
    with prefetching.opened(peers["first"].source_for(asker)) as client:
        prefetching.get_chunks(asker.agent, client, store, image[1], needed[: len(needed) // 2])
    assert len(closures.store_missing(asker.agent, store, needed)) == len(needed) - len(needed) // 2


def test_a_prefetch_reports_what_is_held_and_what_is_not(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    asker = peers["asker"]
    body = {"images": [image[1], "f" * 64], "sources": [peers["first"].source_for(asker)]}
    prefetching.prefetch(asker.agent, body)
    from tests.node.harness import wait_for

    report = wait_for("the report", lambda: asker.sent)[0]["body"]
    assert report["digests"] == [image[1]]
    assert report["failed"][0]["digest"] == "f" * 64
    assert report["failed"][0]["code"] == "NO_INPUT"


@pytest.mark.parametrize("ticket", ["", "asker:1:00", "asker:4000000000:" + "0" * 64])
def test_without_a_ticket_nothing_is_served(peers: dict[str, Peer], image: tuple[Path, str], ticket: str) -> None:
    for method, path in (("GET", f"/images/{image[1]}/manifest"), ("POST", "/chunks"), ("GET", "/certificates")):
        content, headers = b"[]" if method == "POST" else None, {"X-ClusterOS-Ticket": ticket}
        answer = httpx.request(method, peers["first"].url + path, headers=headers, content=content)
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [("GET", "/images/../../node.json", None, 404), ("GET", "/images/xyz/manifest", None, 404), ("GET", "/", None, 404),
     ("GET", f"/images/{'0' * 64}/manifest", None, 404), ("POST", "/chunks", b"{", 400), ("POST", "/chunks", b'["x"]', 400),
     ("POST", "/chunks", b"7", 400), ("POST", "/other", b"[]", 404), ("POST", "/chunks", b'"' + b"x" * (2 << 20) + b'"', 413)],
)  # fmt: skip
def test_malformed_requests_are_refused(peers: dict[str, Peer], method: str, path: str, content: bytes | None, status: int) -> None:
    ticket = peers["first"].source_for(peers["asker"])["ticket"]
    try:
        answer = httpx.request(method, peers["first"].url + path, headers={"X-ClusterOS-Ticket": ticket}, content=content)
    except httpx.WriteError:  # the server refused a body that it did not read
        assert status == 413
        return
    assert answer.status_code == status


def test_the_chunks_of_an_image_are_listed(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    headers = {"X-ClusterOS-Ticket": peers["first"].source_for(peers["asker"])["ticket"]}
    listed = [line.split() for line in httpx.get(f"{peers['first'].url}/images/{image[1]}/chunks", headers=headers).text.splitlines()]
    assert sum(int(size) for _, size in listed) > 3 << 20
    assert len({digest for digest, _ in listed}) == len(listed)
    assert httpx.get(f"{peers['first'].url}/images/{'0' * 64}/chunks", headers=headers).status_code == 404


def test_a_snapshot_left_by_a_killed_service_gets_its_name(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    first = peers["first"]
    first.agent.images.path(image[1]).rename(first.agent.images.taking("left"))
    again = make_agent(first.agent.config, first.sent.append, Engine())
    assert [entry["digest"] for entry in again.images.inventory()] == [image[1]]


def test_removal_and_sweep_free_the_store(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    first = peers["first"]
    assert first.agent.images.remove([image[1], "0" * 64]) == [image[1]]
    assert first.agent.images.inventory() == []
    place = first.agent.images.of("")
    first.agent.engine.call("gc", "--store", place.store, "--images", place.images, "--min-age", "0")
    assert sum(p.stat().st_size for p in first.store_files()) < 1 << 20


def test_certificates_are_kept_and_listed(peers: dict[str, Peer]) -> None:
    first, generation = peers["first"], str(uuid.uuid4())
    first.agent.certificates.keep(generation, {"generation": generation, "digests": [], "certificate": {"mac": "x"}})
    ticket = first.source_for(peers["asker"])["ticket"]
    listed = httpx.get(first.url + "/certificates", headers={"X-ClusterOS-Ticket": ticket}).json()
    assert [entry["generation"] for entry in listed] == [generation]


def test_the_front_end_sees_the_processes_of_an_image_and_gets_one_as_a_core(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    holder = peers["first"]
    headers = {"X-ClusterOS-Ticket": make_ticket(holder.agent.config.secret, "front", FAR_FUTURE)}
    base = f"{holder.url}/images/{image[1]}"
    listed = httpx.get(f"{base}/processes", headers=headers).json()["processes"]
    python = next(each for each in listed if each["name"].startswith("python"))
    core = httpx.get(f"{base}/cores/{python['pid']}", headers=headers, timeout=60)
    assert (core.status_code, core.content[:4]) == (200, b"\x7fELF")
    assert len(core.content) > 3 << 20
    assert httpx.get(f"{base}/cores/4711", headers=headers).status_code == 404
    assert httpx.get(f"{base}/cores/{python['pid']}").status_code == 403
    assert httpx.get(f"{holder.url}/images/{'0' * 64}/processes", headers=headers).status_code == 404
    assert list(holder.agent.config.folder("cores").iterdir()) == [], "nothing is left behind"


def test_a_node_says_whether_it_could_bring_an_image_back_that_it_does_not_hold(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    asker = peers["asker"]
    headers = {"X-ClusterOS-Ticket": make_ticket(asker.agent.config.secret, "front", FAR_FUTURE)}
    manifest = (peers["first"].agent.images.path(image[1]) / "manifest").read_bytes()
    said = httpx.post(f"{asker.url}/fit", content=manifest, headers=headers)
    assert (said.status_code, said.json()) == (200, {"fits": True, "words": "", "changed": []})
    assert httpx.post(f"{asker.url}/fit", content=b"no manifest", headers=headers).status_code >= 400
    assert httpx.post(f"{asker.url}/fit", content=manifest[:-9], headers=headers).status_code >= 400
    assert httpx.post(f"{asker.url}/fit", content=manifest).status_code == 403
    assert not asker.agent.images.has(image[1])
    assert list(asker.agent.config.folder("cores").iterdir()) == [], "nothing is left behind"


def test_before_a_way_back_an_image_is_looked_at_by_the_machine_itself(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    first = peers["first"]
    for policy in ("", "restore"):
        prefetching.prefetch(first.agent, {"images": [image[1]], "sources": [], "fit": policy})
        report = wait_for("the report", partial(_image_report, first, policy))
        assert (report["digests"], report["unfit"]) == ([image[1]], [])


def _image_report(peer: Peer, policy: str) -> dict[str, Any] | None:
    bodies = [envelope["body"] for envelope in peer.sent if envelope["kind"] == "images"]
    return next((body for body in bodies if body["fit"] == policy), None)


def test_traffic_is_counted_on_the_underlays_device() -> None:
    text = "Inter-|\n lo: 9 0 0 0 0 0 0 0 9 0\n eth0: 100 1 0 0 0 0 0 0 50 1\n veth1:7 1 0 0 0 0 0 0 3 1\n"
    assert traffic.counters(text, "eth0") == (100, 50)
    assert traffic.counters(text, "") == (107, 53)
    seen = traffic.Traffic("127.0.0.1")
    assert seen.figures() == {}
    time.sleep(0.01)
    assert set(seen.figures()) == {"net_in_bytes_per_s", "net_out_bytes_per_s"}


def test_what_a_removal_frees_is_what_no_other_image_needs(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    first = peers["first"]
    url, headers = f"{first.url}/images/frees", {"X-ClusterOS-Ticket": first.source_for(peers["asker"])["ticket"]}
    alone = httpx.post(url, headers=headers, json=[[image[1]], []]).json()
    assert alone["frees"][0] == alone["together"] > 3 << 20
    assert alone["frees"][1] == 0
    shutil.copytree(first.agent.images.path(image[1]), first.agent.images.of("").path("e" * 64))
    shared = httpx.post(url, headers=headers, json=[[image[1]], ["e" * 64]]).json()
    assert shared == {"frees": [0, 0], "together": alone["together"]}, "each is needed by the other"
    assert httpx.post(url, headers=headers, json=[[image[1], "e" * 64]]).json()["frees"] == [alone["together"]]
    assert httpx.post(url, headers=headers, json=[[image[1]]]).json() == {"frees": [0], "together": 0}


@pytest.mark.parametrize("asked", [7, [7], [["x"]], {"a": []}, [[["0" * 64]]]])
def test_what_is_no_list_of_images_is_refused(peers: dict[str, Peer], asked: object) -> None:
    headers = {"X-ClusterOS-Ticket": peers["first"].source_for(peers["asker"])["ticket"]}
    assert httpx.post(f"{peers['first'].url}/images/frees", headers=headers, json=asked).status_code == 400


def test_a_sound_image_in_the_place_of_another_is_refused_and_fetched_again(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    """What a hostile disk could do: manifest and chunks agree with each other, and not with the name that the record has."""
    fetch(peers, image[1], "first")
    asker, digest = peers["asker"], image[1]
    manifest = asker.agent.images.path(digest) / "manifest"
    body = bytearray(manifest.read_bytes()[:-32])
    body[body.index(b"python3")] ^= 0x20
    manifest.write_bytes(bytes(body) + hashlib.sha256(bytes(body)).digest())
    assert not is_whole(asker, digest)
    pod, store = asker.agent.config.state / "pod", asker.agent.images.place(digest).store
    with pytest.raises(EngineError, match="its manifest was changed") as caught:
        asker.agent.engine.call("restore", "--image", manifest.parent, "--digest", digest, "--store", store, "--pod", pod, timeout_s=60)
    assert caught.value.code.name == "BAD_IMAGE"
    fetch(peers, digest, "second")
    assert is_whole(asker, digest)


def test_a_pod_that_waits_for_memory_gets_it_from_other_nodes(peers: dict[str, Peer], image: tuple[Path, str]) -> None:
    """What the engine says of a pod that is still filling is all that the watcher needs."""
    fetch(peers, image[1], "first")
    asker = peers["asker"]
    flip(max(asker.store_files(), key=lambda p: p.stat().st_size), 5)
    assert not is_whole(asker, image[1])
    request = {"image": image[1], "sources": [peers["second"].source_for(asker)]}
    record: Any = SimpleNamespace(key="1-0", request=request, live={"filling": {"lacking": 1, "why": "a chunk is not in the store"}})
    Watcher(asker.agent).mend_if_lacking(record)
    wait_for("the image whole", lambda: is_whole(asker, image[1]))
    record.live = {"filling": None}
    Watcher(asker.agent).mend_if_lacking(record)
    assert not asker.agent.runner.busy("mend:")
