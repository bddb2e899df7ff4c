"""Joining a cluster: shows the token to the front end, gets the node's secret, writes node.json."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from clusteros.envelope import NAME
from nodes.agent.config import BY_HAND, ConfigError, NodeConfig, load_config
from nodes.agent.heartbeat import package_version

JOIN_TIMEOUT_S = 15.0
KEEP_FREE_BYTES = 1 << 30


class JoinError(Exception):
    """In words that a person can act on."""


def join(arguments: argparse.Namespace) -> NodeConfig:
    """Register this machine and write its state directory."""
    offer = make_offer(arguments)
    answer = register(arguments.url, offer)
    try:
        config = NodeConfig(
            state=Path(arguments.state).resolve(),
            name=str(answer["name"]),
            secret=str(answer["secret"]),
            server_url=arguments.url.rstrip("/"),
            redis_url=str(arguments.redis_url or answer["redis_url"]),
            address=offer["address"],
            store_port=offer["store_port"],
            cores=offer["cores"],
            mem_bytes=offer["mem_bytes"],
            heartbeat_s=float(answer.get("heartbeat_s") or 1.0),
            **settings_before(Path(arguments.state)),
        )
    except KeyError as error:
        raise JoinError(f"the front end's answer has no {error}") from None
    config.save()
    return config


def settings_before(state: Path) -> dict[str, Any]:
    """What was set by hand in an older node.json there; nothing when there is none, or it is damaged."""
    try:
        before = load_config(state) if (state / "node.json").exists() else None
    except ConfigError:
        before = None
    return {name: getattr(before, name) for name in BY_HAND} if before else {}


def make_offer(arguments: argparse.Namespace) -> dict[str, Any]:
    name = arguments.name or socket.gethostname().split(".")[0]
    if not NAME.match(name):
        raise JoinError(f"{name!r} is not a name for a node: letters, digits, dot, dash; --name gives another")
    address = arguments.address or own_address(arguments.url)
    return {
        "token": arguments.token,
        "name": name,
        "address": address,
        "store_port": arguments.store_port,
        "store_url": f"http://{address}:{arguments.store_port}",
        "cores": arguments.cores or len(os.sched_getaffinity(0)),
        "mem_bytes": arguments.mem_bytes or default_mem_bytes(),
        "version": package_version(),
    }


def own_address(url: str) -> str:
    """The address with which this machine reaches the front end. No packet is sent."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname or "", parts.port or 80))
        except OSError as error:
            raise JoinError(f"{url} cannot be reached: {error}; --address names this machine's own address") from None
        return str(probe.getsockname()[0])


def default_mem_bytes() -> int:
    """What the machine has, less some for itself."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(total // 2, total - KEEP_FREE_BYTES)


def register(url: str, offer: dict[str, Any]) -> dict[str, Any]:
    target = f"{url.rstrip('/')}/api/v1/nodes/join"
    try:
        response = httpx.post(target, json=offer, timeout=JOIN_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        raise JoinError(f"{target}: {error}") from None
    if response.status_code >= 300:
        raise JoinError(f"the front end refused ({response.status_code}): {reason(response)}")
    answer = response.json()
    if not isinstance(answer, dict):
        raise JoinError("the front end's answer is not an object")
    return answer


def reason(response: httpx.Response) -> str:
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or problem)
    except (ValueError, AttributeError):
        return response.text[:200]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="address of the front end, such as http://front:8000")
    parser.add_argument("--token", required=True, help="a join token (console: Nodes, Add; or `clusteros nodes token`)")
    parser.add_argument("--state", default=os.environ.get("CLUSTEROS_NODE_STATE", "/var/lib/clusteros-node"), help="state directory")
    parser.add_argument("--name", help="name of the node (the host's name)")
    parser.add_argument("--address", help="address at which the other nodes reach this one")
    parser.add_argument("--store-port", type=int, default=7711, help="TCP port of the store server")
    parser.add_argument("--cores", type=int, help="cores given to jobs (all)")
    parser.add_argument("--mem-bytes", type=int, help="memory given to jobs (all but 1 GiB)")
    parser.add_argument("--redis-url", help="only if Redis is reached otherwise than the front end says")
