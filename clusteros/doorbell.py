"""The Celery settings that both sides share: Celery carries a message to a worker and nothing else (docs/decisions, "Celery is a
doorbell"). A message may come twice, late or never; what it means lives in the database and in the nodes' state directories.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

TRANSPORT = {
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "health_check_interval": 10,
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
}


def doorbell(name: str, broker_url: str, queue: str, **more: Any) -> Celery:
    """A Celery app that takes its messages from `queue` and keeps trying whatever happens to the broker."""
    app = Celery(name, broker=broker_url, set_as_current=True)
    app.conf.update(
        task_default_queue=queue,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_retry_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=10,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=dict(TRANSPORT),
        **more,
    )
    return app
