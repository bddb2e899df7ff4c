"""The Celery app of the control side: `celery -A clusteros.control_app worker -Q control --pool threads -c 16
--without-gossip --without-mingle`. Tasks last seconds; every one may be run twice or never without harm.

The node service has its own app (clusteros.node_app) and shares only the broker.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteros.settings")

from clusteros.environment import environment

QUEUE = "control"

app = Celery("clusteros.control", broker=environment().broker_url())
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    task_retry_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_soft_shutdown_timeout=10,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    },
    worker_hijack_root_logger=False,
)
app.set_default()
app.autodiscover_tasks(["nodes", "checkpoints"])
