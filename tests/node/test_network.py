"""Networks of jobs: two nodes and their pods in namespaces that the tests make themselves."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from pyroute2 import IPRoute

from nodes.agent import netns, wayout
from nodes.agent.network import BRIDGE, JobNetworks, gateway_of, pod_mac
from nodes.agent.spec import Place, PodSpec, take_spec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of a cluster need root")
T = TypeVar("T")
UNDERLAY = {"a": "192.0.2.1", "b": "192.0.2.2"}


@dataclass
class Node:
    name: str
    folder: Path
    networks: JobNetworks

    def inside(self, work: Callable[[], T]) -> T:
        return netns.inside(self.folder / "node-ns", work)

    def hub(self, job: str) -> Path:
        return self.folder / "net" / job / "ns"


def make_node(name: str, folder: Path) -> Node:
    (folder / "net").mkdir(parents=True)
    netns.create(folder / "node-ns")
    return Node(name, folder, JobNetworks(folder / "net", UNDERLAY[name]))


def up(name: str, address: str, prefix: int) -> None:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=name)[0]
        ip.addr("add", index=index, address=address, prefixlen=prefix)
        ip.link("set", index=index, state="up")


def veth(name: str, peer: str, peer_ns: Path) -> None:
    fd = os.open(peer_ns, os.O_RDONLY)
    try:
        with IPRoute() as ip:
            ip.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": fd})
    finally:
        os.close(fd)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    both = {name: make_node(name, tmp_path / name) for name in UNDERLAY}
    made: list[Path] = [both[n].folder / "node-ns" for n in both]
    try:
        both["a"].inside(lambda: veth("u0", "u0", both["b"].folder / "node-ns"))
        for name, node in both.items():
            node.inside(lambda name=name: up("u0", UNDERLAY[name], 24))
        yield both
    finally:
        for node in both.values():
            for job in node.networks.jobs():
                node.inside(lambda node=node, job=job: node.networks.remove(job))
        for path in [*tmp_path.glob("*/pod-*"), *made]:
            netns.destroy(path)


def spec(job: str, pod: int, where: str, vni: int = 77, cores: int = 1) -> PodSpec:
    """`where`: the node's name of each pod, as in "ab"."""
    pods = [{"pod": k, "node": n, "underlay_ip": UNDERLAY[n], "ip": f"10.77.0.{k + 1}"} for k, n in enumerate(where)]
    return take_spec(
        {
            "job": job,
            "run": str(uuid.uuid4()),
            "epoch": 1,
            "pod": pod,
            "pods": pods,
            "hostname": f"pod-{pod}",
            "uid": 20000,
            "gid": 20000,
            "user": "someone",
            "ranks_per_pod": 1,
            "cores": cores,
            "workdir": "/work",
            "vni": vni,
            "mtu": 1400,
        }
    )


def plug_pod(node: Node, job: str, pod: int) -> Path:
    """What the engine does with the --net text: a namespace whose eth0 hangs on the hub's bridge."""
    path = node.folder / f"pod-{job}-{pod}"
    netns.create(path)

    def in_hub() -> None:
        veth(f"p{pod}", "eth0", path)
        with IPRoute() as ip:
            bridge, port = ip.link_lookup(ifname=BRIDGE)[0], ip.link_lookup(ifname=f"p{pod}")[0]
            ip.link("set", index=port, master=bridge, state="up")

    def in_pod() -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="eth0")[0], address=pod_mac(pod), mtu=1400)
        up("eth0", f"10.77.0.{pod + 1}", 16)
        with IPRoute() as ip:
            ip.route("add", dst="default", gateway=gateway_of("10.77.0.1"))

    netns.inside(node.hub(job), in_hub)
    netns.inside(path, in_pod)
    return path


def place(node: Node, job: str, pod: int, where: str, vni: int = 77) -> Path:
    node.inside(lambda: node.networks.ensure(spec(job, pod, where, vni), node.name))
    return plug_pod(node, job, pod)


def talk(server: Path, client: Path, address: str, size: int = 300_000, patience_s: float = 8) -> bool:
    """Send `size` bytes from `client` to a server at `address` and have them echoed; False when it cannot connect."""
    listener = netns.inside(server, lambda: socket.create_server((address, 7000)))
    listener.settimeout(patience_s + 1)

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return netns.inside(client, lambda: echo(address, size, patience_s))
    finally:
        thread.join()
        listener.close()


def echo(address: str, size: int, patience_s: float) -> bool:
    sent = os.urandom(size)
    try:
        connection = socket.create_connection((address, 7000), timeout=patience_s)
    except OSError:
        return False
    with connection:
        writer = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        got = b"".join(iter(lambda: connection.recv(65536), b""))
        writer.join()
    return got == sent


def test_pods_on_two_nodes_reach_each_other_through_the_tunnel(nodes: dict[str, Node]) -> None:
    job = str(uuid.uuid4())
    first, second = place(nodes["a"], job, 0, "ab"), place(nodes["b"], job, 1, "ab")
    assert talk(first, second, "10.77.0.1")
    assert talk(second, first, "10.77.0.2")


def test_jobs_with_the_same_addresses_do_not_meet(nodes: dict[str, Node]) -> None:
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    place(nodes["a"], mine, 0, "ab", vni=77)
    stranger = place(nodes["b"], other, 1, "ab", vni=78)
    server = nodes["a"].folder / f"pod-{mine}-0"
    assert not talk(server, stranger, "10.77.0.1", patience_s=2)


def test_a_pod_that_moved_is_found_at_its_new_node(nodes: dict[str, Node]) -> None:
    job = str(uuid.uuid4())
    first, second = place(nodes["a"], job, 0, "ab"), place(nodes["b"], job, 1, "ab")
    assert talk(first, second, "10.77.0.1")
    netns.destroy(second)
    nodes["b"].inside(lambda: nodes["b"].networks.remove(job))
    moved = place(nodes["a"], job, 1, "aa")
    assert talk(first, moved, "10.77.0.1")


def test_setting_up_twice_changes_nothing(nodes: dict[str, Node]) -> None:
    job, node = str(uuid.uuid4()), nodes["a"]
    pod_spec = spec(job, 0, "ab")
    first = node.inside(lambda: node.networks.ensure(pod_spec, "a"))
    before = netns.inside(node.hub(job), links)
    assert node.inside(lambda: node.networks.ensure(pod_spec, "a")) == first
    assert netns.inside(node.hub(job), links) == before


def test_another_number_of_the_job_replaces_the_tunnel(nodes: dict[str, Node]) -> None:
    job = str(uuid.uuid4())
    first = place(nodes["a"], job, 0, "ab", vni=77)
    nodes["a"].inside(lambda: nodes["a"].networks.ensure(spec(job, 0, "ab", vni=99), "a"))
    second = place(nodes["b"], job, 1, "ab", vni=99)
    assert talk(first, second, "10.77.0.1")


def test_pods_reach_the_world_through_the_node(nodes: dict[str, Node]) -> None:
    job = str(uuid.uuid4())
    pod = place(nodes["a"], job, 0, "ab")
    assert nodes["a"].networks.way_out_problem == ""
    assert talk(nodes["b"].folder / "node-ns", pod, UNDERLAY["b"])


def test_removal_leaves_no_interface_and_no_mount(nodes: dict[str, Node]) -> None:
    job, node = str(uuid.uuid4()), nodes["a"]
    node.inside(lambda: node.networks.ensure(spec(job, 0, "ab"), "a"))
    node.inside(lambda: node.networks.remove(job))
    node.inside(lambda: node.networks.remove(job))
    assert node.inside(links) == {"lo", "u0"}
    assert str(node.folder / "net") not in Path("/proc/self/mountinfo").read_text()
    assert node.networks.jobs() == []


def test_what_a_kill_left_between_making_and_moving_is_taken_away(nodes: dict[str, Node]) -> None:
    job, node = str(uuid.uuid4()), nodes["a"]

    def leave_behind() -> None:
        with IPRoute() as ip:
            ip.link("add", ifname="cvx4d", kind="vxlan", vxlan_id=77, vxlan_local=UNDERLAY["a"], vxlan_port=4789)
            ip.link("add", ifname=wayout.node_side(0), kind="veth", peer={"ifname": "lost"})

    node.inside(leave_behind)
    first, second = place(node, job, 0, "ab"), place(nodes["b"], job, 1, "ab")
    assert talk(first, second, "10.77.0.1")


def links() -> set[str]:
    with IPRoute() as ip:
        return {link.get_attr("IFLA_IFNAME") for link in ip.get_links()} - {"ifb0", "ifb1"}


def test_places_of_forwarding_are_what_the_kernel_says(nodes: dict[str, Node]) -> None:
    from nodes.agent.network import TUNNEL, _index, _present_forwarding, wanted_forwarding

    job, node = str(uuid.uuid4()), nodes["a"]
    node.inside(lambda: node.networks.ensure(spec(job, 0, "ab"), "a"))

    def present() -> set[tuple[str, str | None]]:
        with IPRoute() as ip:
            index = _index(ip, TUNNEL)
            assert index is not None
            return _present_forwarding(ip, index)

    assert netns.inside(node.hub(job), present) == wanted_forwarding((Place(1, "b", UNDERLAY["b"], "10.77.0.2"),))
