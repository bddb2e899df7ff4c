"""The lab's wire: a bridge at the front end, one veth per node (pyroute2; no program is run)."""

from __future__ import annotations

import os

from pyroute2 import IPRoute

from clusteros.lab.layout import FRONT_ADDRESS

PREFIX = 24


def node_address(index: int) -> str:
    """Address of the node with this index (from 0)."""
    return f"10.91.0.{index + 1}"


def up_front() -> None:
    """Loopback and the bridge with the front end's address; harmless when they are there."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        if not ip.link_lookup(ifname="lab0"):
            ip.link("add", ifname="lab0", kind="bridge")
        bridge = ip.link_lookup(ifname="lab0")[0]
        ip.addr("replace", index=bridge, address=FRONT_ADDRESS, prefixlen=PREFIX)
        ip.link("set", index=bridge, state="up")


def plug_node(index: int, pid: int) -> None:
    """A veth from the bridge into the network namespace of process `pid`, where it is named eth0."""
    outer = f"node{index + 1}"
    with IPRoute() as ip:
        for old in ip.link_lookup(ifname=outer):
            ip.link("del", index=old)
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            ip.link("add", ifname=outer, kind="veth", peer={"ifname": "eth0", "net_ns_fd": fd})
        finally:
            os.close(fd)
        port = ip.link_lookup(ifname=outer)[0]
        ip.link("set", index=port, master=ip.link_lookup(ifname="lab0")[0], state="up")


def up_node(index: int) -> None:
    """Inside the node: loopback, address, the way to the front end."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        eth0 = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=eth0, address=node_address(index), prefixlen=PREFIX)
        ip.link("set", index=eth0, state="up")
        ip.route("add", dst="default", gateway=FRONT_ADDRESS)
