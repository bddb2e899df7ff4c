"""The Celery app of the control side: `celery -A clusteros.control_app worker -Q control --pool threads -c 16
--without-gossip --without-mingle`. Tasks last seconds; every one may be run twice or never without harm.

The node service has its own app (clusteros.node_app) and shares only the broker.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteros.settings")

from clusteros.doorbell import doorbell
from clusteros.environment import environment

QUEUE = "control"

app = doorbell("clusteros.control", environment().broker_url(), QUEUE, worker_hijack_root_logger=False)
app.set_default()
app.autodiscover_tasks(["nodes", "checkpoints"])
