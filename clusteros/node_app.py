"""The node service as a Celery worker, without Django, models or a database:

    celery -A clusteros.node_app worker -Q node.NAME --pool threads --concurrency 32 --without-gossip --without-mingle

Celery carries messages and nothing else: a task hands its message over and ends. The worker process holds the one
Service of its state directory (CLUSTEROS_NODE_STATE).
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_shutdown
from kombu.exceptions import OperationalError

from clusteros.doorbell import doorbell
from nodes.agent.config import NodeConfig, load_config
from nodes.agent.service import Service

log = logging.getLogger(__name__)
CONTROL_TASK, CONTROL_QUEUE = "control.record", "control"
MESSAGE_EXPIRES_S = 60


@lru_cache(maxsize=1)
def config() -> NodeConfig:
    return load_config()


def make_app(node: NodeConfig) -> Celery:
    return doorbell("clusteros.node", node.broker_url, f"node.{node.name}", worker_hijack_root_logger=True, worker_redirect_stdouts=False)


app = make_app(config())
_service: Service | None = None


def publish(envelope: dict[str, Any]) -> None:
    """Send one envelope to the control side; ConnectionError when Redis cannot be reached now."""
    options = {"queue": CONTROL_QUEUE, "retry": False, "ignore_result": True}
    if envelope["kind"] == "heartbeat":
        options["expires"] = MESSAGE_EXPIRES_S
    try:
        app.send_task(CONTROL_TASK, args=[envelope], **options)
    except (OperationalError, OSError) as error:
        raise ConnectionError(str(error)) from error


@app.task(name="nodes.agent.act")
def act(envelope: Any) -> None:
    """One message from the control side."""
    if _service is None:
        raise RuntimeError("the service has not started")
    _service.acts.act(envelope)


@worker_init.connect
def _start(**_: Any) -> None:
    global _service
    service = Service(config(), publish)
    _service = service
    service.start()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    if _service:
        _service.stop()
