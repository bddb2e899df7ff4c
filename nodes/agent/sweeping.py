"""The sweep of the store after images were removed: chunks that no manifest names any more go."""

from __future__ import annotations

import logging

from native.engine import EngineError
from nodes.agent import snapshots
from nodes.agent.agent import Agent
from nodes.agent.stores import OwnerStore

log = logging.getLogger(__name__)
SWEEP_TIMEOUT_S = 600.0
WAIT_S = 120.0


def sweep(agent: Agent) -> None:
    """Mark and sweep while nobody adds; when there is no such moment, a later removal sweeps."""
    with agent.images.sweeping(WAIT_S) as alone:
        if not alone or snapshots.unsettled(agent):
            log.info("the store is not swept now: somebody is adding to it")
            return
        for each in agent.images.every():
            sweep_one(agent, each)


def sweep_one(agent: Agent, place: OwnerStore) -> None:
    if not place.store.exists():
        return
    try:
        agent.engine.call("gc", "--store", place.store, "--images", place.images, timeout_s=SWEEP_TIMEOUT_S)
    except EngineError as error:
        log.warning("sweep of the store: %s", error)
