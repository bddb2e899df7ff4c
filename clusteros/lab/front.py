"""First process of a lab (`python -m clusteros.lab.front DIRECTORY`): brings up its wire, then becomes the supervisor of everything.

It runs as process 1 of the lab's own process, network, mount and IPC namespaces; when it ends, all ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clusteros.lab import cgroups, embedded, network, supervise
from clusteros.lab.layout import FRONT_ADDRESS, LISTEN_FD, REDIS_PORT, REPOSITORY, Lab, front_environment

LAB_WEIGHT = 16  # a whole cluster counts for more than one process of this machine
FRONT_WEIGHT = 8  # jobs on all cores must not starve what renews their leases


def _programs(lab: Lab) -> dict[str, dict[str, str]]:
    python, settings = sys.executable, lab.settings()
    environment = {"directory": str(REPOSITORY), "environment": supervise.environment_option(front_environment(lab))}
    waits = {"autostart": "false"}  # `prepare` starts them when the database is ready
    redis = embedded.redis_command(
        lab.front / "redis", binds=["127.0.0.1", FRONT_ADDRESS], port=REDIS_PORT, password=settings["redis_password"]
    )
    celery = f"{python} -m celery -A clusteros.control_app worker -Q control --concurrency 4 --pool threads"
    programs = {
        "postgres": {"command": " ".join(embedded.postgres_command(lab.front / "postgres")), "stopsignal": "INT", "priority": "1"},
        "redis": {"command": " ".join(redis), "priority": "1"},
        "prepare": {"command": f"{python} -m clusteros.lab.prepare {lab.directory}", "autorestart": "unexpected", **environment},
        "web": {"command": f"{python} -m clusteros.lab.web {LISTEN_FD}", **waits, **environment},
        "scheduler": {"command": f"{python} manage.py scheduler", **waits, **environment},
        "control": {"command": f"{celery} --without-gossip --without-mingle -n control@front --loglevel INFO", **waits, **environment},
    }
    node = {"directory": str(REPOSITORY), "stopsignal": "KILL", **waits}
    node["environment"] = supervise.environment_option({"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"})
    for name in lab.node_names():
        programs[name] = {"command": f"{python} -m clusteros.lab.node {lab.directory} {name}", **node}
    return programs


def main() -> None:
    """Never returns: the process becomes supervisord."""
    lab = Lab(Path(sys.argv[1]))
    logs = lab.front / "log"
    for folder in (logs, lab.front / "state", lab.front / "redis", lab.front / "postgres"):
        folder.mkdir(parents=True, exist_ok=True)
    cgroups.join(lab.cgroup + "/front", os.getpid())
    cgroups.weigh(lab.cgroup, LAB_WEIGHT)
    cgroups.allow_urgent(lab.cgroup, cgroups.URGENT_PART)
    cgroups.allow_urgent(lab.cgroup + "/front", cgroups.URGENT_FRONT_PART)
    cgroups.weigh(lab.cgroup + "/front", FRONT_WEIGHT)
    network.up_front()
    embedded.init_postgres(lab.front / "postgres")
    lab.socket.unlink(missing_ok=True)
    path = lab.front / "supervisord.conf"
    path.touch(mode=0o600)
    path.write_text(supervise.config(lab.socket, logs, _programs(lab)))
    command = supervise.supervisord_command(path)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
