"""Certificates of complete generations, kept for the day on which the record itself is lost."""

from __future__ import annotations

from typing import Any

from nodes.agent.agent import Agent
from nodes.agent.durable import read_json, write_json
from nodes.agent.spec import bad, take_uuid


def keep(agent: Agent, body: dict[str, Any]) -> None:
    generation = take_uuid(body, "generation")
    if not isinstance(body.get("certificate"), dict):
        raise bad("certificate is not an object")
    write_json(agent.config.folder("certificates") / f"{generation}.json", body)


def listing(agent: Agent) -> list[dict[str, Any]]:
    """All that are kept, as they came."""
    return [read_json(path) for path in sorted(agent.config.folder("certificates").glob("*.json"))]
