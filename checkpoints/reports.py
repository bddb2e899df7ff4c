"""Which reports of nodes this app takes."""

from __future__ import annotations

from checkpoints.services.certifying import record_certificate
from checkpoints.services.replicas import record_image_inventory, record_images
from checkpoints.services.resuming import record_restored
from checkpoints.services.sharing import record_shared, record_shared_view
from checkpoints.services.taking import record_cut, record_snapshot
from nodes.inbox import on_heartbeat, on_report

on_report("cut")(record_cut)
on_report("snapshot")(record_snapshot)
on_report("restored")(record_restored)
on_report("images")(record_images)
on_report("certificate")(record_certificate)
on_report("shared")(record_shared)
on_heartbeat(record_image_inventory)
on_heartbeat(record_shared_view)
