"""The way out of a job's network: a veth from the hub to the node's namespace, with NAT on both of its ends.

The hub masquerades the job's addresses (which every job may use) behind one address of its own, the node
masquerades those behind its own. All by netlink; no program is run. Idempotent.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.nftables.expressions import genex, masq
from pyroute2.nftables.main import NFTables

from nodes.agent import netns

HUB_SIDE = "out0"
LINKS = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598: never routed, so it meets no site's own addresses
TABLE, CHAIN = "clusteros-nat", "postrouting"
NF_INET_POST_ROUTING, PRIORITY_SRCNAT = 4, 100
NFPROTO_IPV4 = 2
SOURCE, DESTINATION = 12, 16  # offsets in the IPv4 header
EQUAL, NOT_EQUAL = 0, 1


def node_side(slot: int) -> str:
    return f"cos{slot}"


def addresses(slot: int) -> tuple[str, str]:
    """The node's and the hub's end of link number `slot` (a /30 each)."""
    base = LINKS.network_address + 4 * slot
    if base + 3 not in LINKS:
        raise OSError(f"there is no address for way out number {slot}")
    return str(base + 1), str(base + 2)


def build(hub: Path, slot: int, job_network: ipaddress.IPv4Network) -> None:
    """Make or correct the link, routes and both NATs. OSError or NetlinkError when the kernel refuses."""
    _make_link(hub, slot)
    _forwarding_on()
    _masquerade(str(LINKS.network_address), LINKS.prefixlen)
    netns.inside(hub, lambda: _hub_side(slot, job_network))


def _make_link(hub: Path, slot: int) -> None:
    node_ip, _ = addresses(slot)
    fd = os.open(hub, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with IPRoute() as ip:
            present = netns.inside(hub, _has_hub_side)
            for index in ip.link_lookup(ifname=node_side(slot)):
                if present:
                    return
                ip.link("del", index=index)  # its other end went with an older hub
            if present:
                netns.inside(hub, _drop_hub_side)
            ip.link("add", ifname=node_side(slot), kind="veth", peer={"ifname": HUB_SIDE, "net_ns_fd": fd})
            index = ip.link_lookup(ifname=node_side(slot))[0]
            ip.addr("replace", index=index, address=node_ip, prefixlen=30)
            ip.link("set", index=index, state="up")
    finally:
        os.close(fd)


def _has_hub_side() -> bool:
    with IPRoute() as ip:
        return bool(ip.link_lookup(ifname=HUB_SIDE))


def _drop_hub_side() -> None:
    with IPRoute() as ip:
        ip.link("del", index=ip.link_lookup(ifname=HUB_SIDE)[0])


def _hub_side(slot: int, job_network: ipaddress.IPv4Network) -> None:
    node_ip, hub_ip = addresses(slot)
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=HUB_SIDE)[0]
        ip.addr("replace", index=index, address=hub_ip, prefixlen=30)
        ip.link("set", index=index, state="up")
        ip.route("replace", dst="default", gateway=node_ip)
    _forwarding_on()
    _masquerade(str(job_network.network_address), job_network.prefixlen)


def _forwarding_on() -> None:
    """In the namespace of this thread."""
    path = Path("/proc/sys/net/ipv4/ip_forward")
    if path.read_text().strip() != "1":
        path.write_text("1")


def _masquerade(network: str, prefix: int) -> None:
    """One rule: what comes from `network` and leaves it gets the address of the interface."""
    with NFTables(nfgen_family=NFPROTO_IPV4) as nft:
        if any(chain.get_attr("NFTA_CHAIN_TABLE") == TABLE for chain in nft.get_chains()):
            return
        nft.begin()
        nft.table("add", name=TABLE)
        nft.chain("add", table=TABLE, name=CHAIN, hook="postrouting", type="nat", policy=1, priority=PRIORITY_SRCNAT)
        nft.rule("add", table=TABLE, chain=CHAIN, expressions=_outgoing(network, prefix))
        nft.commit()


def _outgoing(network: str, prefix: int) -> tuple[list[Any], ...]:
    """`ip saddr NETWORK/PREFIX ip daddr != NETWORK/PREFIX masquerade` (the library's own ipv4addr() turns a mask like /10 around)."""
    address = ipaddress.IPv4Network(f"{network}/{prefix}")
    return (_in_network(SOURCE, EQUAL, address), _in_network(DESTINATION, NOT_EQUAL, address), masq())


def _in_network(offset: int, operator: int, address: ipaddress.IPv4Network) -> list[Any]:
    load = genex("payload", {"dreg": 1, "base": 1, "offset": offset, "len": 4})
    mask = genex("bitwise", {"sreg": 1, "dreg": 1, "len": 4, "mask": _data(address.netmask.packed), "xor": _data(bytes(4))})
    return [load, mask, genex("cmp", {"sreg": 1, "op": operator, "data": _data(address.network_address.packed)})]


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}
