"""The networks of the jobs on this node: per job one hub namespace with a bridge, a VXLAN device and a way out.

The hub is bound to net/JOB/ns; hub.json beside it says what it was made for. `ensure` makes or corrects the
hub (idempotent: it compares with what the kernel says), `remove` takes it away. The engine puts a pod's veth
into the bridge by the --net text that `ensure` returns. All jobs may use the same addresses: no hub knows
another. The VXLAN device is made in the node's namespace and moved, so that its underlay stays there.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from native.engine import EngineError
from nodes.agent import netns, wayout
from nodes.agent.durable import read_json, remove, write_json
from nodes.agent.spec import Place, PodSpec

log = logging.getLogger(__name__)

BRIDGE, TUNNEL = "br0", "vx0"
VXLAN_PORT = 4789
PREFIX = 16
FLOOD_MAC = "00:00:00:00:00:00"
AF_BRIDGE = 7
NTF_SELF, NTF_MASTER = 0x02, 0x04
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80


def pod_mac(pod: int) -> str:
    """The address of pod k's card: the same on every node and in every run."""
    return "02:c1:" + ":".join(f"{b:02x}" for b in (pod + 1).to_bytes(4, "big"))


def gateway_of(ip: str) -> str:
    """The hub's own address in a job's network: the last one."""
    return str(ipaddress.IPv4Interface(f"{ip}/{PREFIX}").network.broadcast_address - 1)


@dataclass(frozen=True)
class Hub:
    """What a hub is made for."""

    folder: Path
    vni: int
    mtu: int
    gateway: str
    slot: int
    remotes: tuple[Place, ...]

    @property
    def path(self) -> Path:
        return self.folder / "ns"


class JobNetworks:
    def __init__(self, folder: Path, underlay: str) -> None:
        self._folder, self._underlay = folder, underlay
        self._locks: dict[str, threading.RLock] = defaultdict(threading.RLock)
        self._slots = threading.Lock()
        self.way_out_problem = ""

    def ensure(self, spec: PodSpec, node: str) -> str:
        """The hub of the pod's job as its placement wants it. Returns the engine's --net text."""
        with self._locks[spec.job]:
            hub = self._plan(spec, node)
            try:
                self._build(hub)
            except (OSError, NetlinkError) as error:
                raise EngineError("OS", f"network of job {spec.job_number}: {error}") from error
        ip = spec.place.ip
        return (
            f"hub={hub.path},bridge={BRIDGE},ip={ip}/{PREFIX},gw={hub.gateway},"
            f"mac={pod_mac(spec.pod)},ifname=eth0,mtu={spec.mtu}"
        )

    def remove(self, job: str) -> None:
        """Take the hub away; no hub is fine."""
        with self._locks[job]:
            folder = self._folder / job
            if netns.exists(folder / "ns"):
                netns.inside(folder / "ns", _delete_links)
            netns.destroy(folder / "ns")
            remove(folder)

    def jobs(self) -> list[str]:
        return [entry.name for entry in self._folder.iterdir() if entry.is_dir()]

    def _plan(self, spec: PodSpec, node: str) -> Hub:
        folder = self._folder / spec.job
        folder.mkdir(mode=0o700, exist_ok=True)
        remotes = tuple(p for p in spec.pods if p.node != node)
        hub = Hub(folder, spec.vni, spec.mtu, gateway_of(spec.place.ip), self._slot(spec.job), remotes)
        write_json(folder / "hub.json", {"vni": hub.vni, "mtu": hub.mtu, "slot": hub.slot})
        return hub

    def _slot(self, job: str) -> int:
        """The lowest number that no other hub of this node has: it numbers the way out."""
        with self._slots:
            taken = {}
            for path in self._folder.glob("*/hub.json"):
                taken[path.parent.name] = int((read_json(path) or {}).get("slot", -1))
            if job in taken:
                return taken[job]
            slot = next(n for n in range(len(taken) + 1) if n not in taken.values())
            write_json(self._folder / job / "hub.json", {"slot": slot})
            return slot

    def _build(self, hub: Hub) -> None:
        netns.create(hub.path)
        netns.inside(hub.path, lambda: _make_bridge(hub))
        if hub.remotes:
            self._make_tunnel(hub)
            netns.inside(hub.path, lambda: _sync_forwarding(hub))
        self._make_way_out(hub)

    def _make_tunnel(self, hub: Hub) -> None:
        if netns.inside(hub.path, lambda: _tunnel_is_right(hub)):
            return
        name = f"cvx{hub.vni:x}"
        target = os.open(hub.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with IPRoute() as ip:
                _delete(ip, name)  # left by a kill between making and moving
                ip.link("add", ifname=name, kind="vxlan", vxlan_id=hub.vni, vxlan_local=self._underlay,
                        vxlan_port=VXLAN_PORT, vxlan_learning=0)  # fmt: skip
                ip.link("set", index=_index(ip, name), net_ns_fd=target)
        finally:
            os.close(target)
        netns.inside(hub.path, lambda: _attach_tunnel(hub, name))

    def _make_way_out(self, hub: Hub) -> None:
        """Without NAT the job still runs: it only cannot reach the world, and doctor says so."""
        try:
            wayout.build(hub.path, hub.slot, ipaddress.IPv4Interface(f"{hub.gateway}/{PREFIX}").network)
        except (OSError, NetlinkError) as error:
            self.way_out_problem = f"pods have no way out of their job's network: {error}"
            log.warning(self.way_out_problem)


# ---- inside the hub


def _index(ip: IPRoute, name: str) -> int | None:
    found = ip.link_lookup(ifname=name)
    return found[0] if found else None


def _delete(ip: IPRoute, name: str) -> None:
    index = _index(ip, name)
    if index is not None:
        ip.link("del", index=index)


def _make_bridge(hub: Hub) -> None:
    _frames_pass_unfiltered()
    with IPRoute() as ip:
        ip.link("set", index=_index(ip, "lo"), state="up")
        if _index(ip, BRIDGE) is None:
            ip.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0, br_stp_state=0, br_mcast_snooping=0)
        index = _index(ip, BRIDGE)
        ip.link("set", index=index, address="02:c1:ff:ff:ff:fe", mtu=hub.mtu, state="up")
        if hub.gateway not in {a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=index)}:
            ip.addr("add", index=index, address=hub.gateway, prefixlen=PREFIX)


def _frames_pass_unfiltered() -> None:
    """Where the kernel hands bridged frames to the IP filters, it would masquerade what pods say to each other."""
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"):
        with suppress(FileNotFoundError):
            Path("/proc/sys/net/bridge", name).write_text("0")


def _tunnel_is_right(hub: Hub) -> bool:
    """A hub may be left from a run that had another number: its tunnel then goes."""
    with IPRoute() as ip:
        index = _index(ip, TUNNEL)
        if index is None:
            return False
        info = ip.get_links(index)[0].get_attr("IFLA_LINKINFO")
        if info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_VXLAN_ID") == hub.vni:
            return True
        ip.link("del", index=index)
        return False


def _attach_tunnel(hub: Hub, name: str) -> None:
    with IPRoute() as ip:
        index = _index(ip, name)
        ip.link("set", index=index, ifname=TUNNEL, mtu=hub.mtu)
        ip.link("set", index=index, master=_index(ip, BRIDGE))
        ip.brport("set", index=index, learning=0)
        ip.link("set", index=index, state="up")


def wanted_forwarding(remotes: tuple[Place, ...]) -> set[tuple[str, str | None]]:
    """(card, underlay address) for each remote pod, floods to each remote node, and None for the bridge's own entry."""
    unicast = {(pod_mac(p.pod), p.underlay_ip) for p in remotes}
    floods = {(FLOOD_MAC, p.underlay_ip) for p in remotes}
    return unicast | floods | {(pod_mac(p.pod), None) for p in remotes}


def _present_forwarding(ip: IPRoute, index: int) -> set[tuple[str, str | None]]:
    found: set[tuple[str, str | None]] = set()
    for entry in ip.fdb("dump"):
        if entry["ifindex"] != index:
            continue
        mac, to_bridge = entry.get_attr("NDA_LLADDR"), entry.get_attr("NDA_MASTER") is not None
        if mac.startswith("02:c1:00") or not to_bridge:
            found.add((mac, None if to_bridge else entry.get_attr("NDA_DST")))
    return found


def _sync_forwarding(hub: Hub) -> None:
    with IPRoute() as ip:
        index = _index(ip, TUNNEL)
        assert index is not None
        wanted, present = wanted_forwarding(hub.remotes), _present_forwarding(ip, index)
        for mac, dst in sorted(present - wanted, key=str):
            _fdb(ip, "del", index, mac, dst)
        for mac, dst in sorted(wanted - present, key=str):
            _fdb(ip, "append" if mac == FLOOD_MAC else "add", index, mac, dst)


def _fdb(ip: IPRoute, command: str, index: int, mac: str, dst: str | None) -> None:
    """NOARP alone is the bridge's static entry; with PERMANENT it would mean an address of the bridge itself."""
    if dst is None:
        ip.fdb(command, ifindex=index, lladdr=mac, flags=NTF_MASTER, state=NUD_NOARP)
    else:
        ip.fdb(command, ifindex=index, lladdr=mac, flags=NTF_SELF, state=NUD_NOARP | NUD_PERMANENT, dst=dst)


def _delete_links() -> None:
    with IPRoute() as ip:
        for name in (TUNNEL, wayout.HUB_SIDE, BRIDGE):
            _delete(ip, name)
