"""Which reports of nodes this app takes."""

from __future__ import annotations

from jobs.services.files import record_files
from jobs.services.logs import record_log
from jobs.services.running import record_exec, record_inventory, record_pod
from nodes.inbox import on_heartbeat, on_report

on_report("pod")(record_pod)
on_report("log")(record_log)
on_report("files")(record_files)
on_report("exec")(record_exec)
on_heartbeat(record_inventory)
