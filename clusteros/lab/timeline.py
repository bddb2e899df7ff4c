"""Where the pause of a job's generation goes: what every pod, node service and the control side did at which instant.

All of a lab's processes read one machine's monotonic clock, so that their instants can be compared; on real nodes they could not.
The node services keep theirs in the notes of their snapshots, the control side for some minutes in Redis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from clusteros.lab.layout import Lab

STEPS = {
    "say_stop": "node service says stop",
    "engine_stop": "engine begins to stop the processes",
    "engine_stopped": "all stopped",
    "engine_asked": "all asked, memory copied on write",
    "engine_cut": "frozen, network locked",
    "engine_descriptors": "descriptors captured",
    "engine_memory": "what changed or is shared copied",
    "engine_captured": "captured",
    "heard_captured": "node service hears captured",
    "all_in": "control side: all are captured",
    "decided": "control side: decision committed",
    "say_go": "node service says go",
    "engine_go": "engine hears go",
    "engine_released": "all run on",
}


@dataclass
class Cut:
    """One generation: by pod the instants of each step, in seconds; the control side's under every pod."""

    number: int
    pods: dict[int, dict[str, float]]

    @property
    def first_stop(self) -> float:
        return min(at["engine_stop"] for at in self.pods.values())

    @property
    def pause_s(self) -> float:
        """From the first stop of any process to the last that runs on."""
        return max(at["engine_released"] for at in self.pods.values()) - self.first_stop


def read_cuts(lab: Lab) -> dict[int, Cut]:
    """The cuts of which every node's note is there, by the generation's number (of a lab with one job)."""
    cuts: dict[int, Cut] = {}
    for note in _notes(lab):
        body, at = note["body"], dict(note.get("timeline") or {})
        if "engine_released" in at:
            at |= _decision(lab, f"cut:{body['generation']}:{body['epoch']}:timeline")
            cuts.setdefault(int(body["number"]), Cut(int(body["number"]), {})).pods[int(body["pod"])] = at
    return cuts


def _notes(lab: Lab) -> list[dict[str, Any]]:
    found = [path for name in lab.node_names() for path in (lab.node_state(name) / "snapshots").glob("*.json")]
    return [dict(json.loads(path.read_text())) for path in found]


def _decision(lab: Lab, key: str) -> dict[str, float]:
    socket, password = lab.front / "redis" / "redis.sock", lab.settings()["redis_password"]
    with redis.Redis(unix_socket_path=str(socket), password=password) as client:
        found: Any = client.hgetall(key)
    return {name.decode(): float(value) for name, value in found.items()}


def show(screen: Console, cut: Cut) -> None:
    """A table of one generation: milliseconds since the first stop."""
    title = f"Generation {cut.number}: {cut.pause_s * 1e3:.1f} ms from the first stop to the last go; ms since the first stop"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for pod in sorted(cut.pods):
        table.add_column(f"pod {pod}", justify="right")
    for step, words in STEPS.items():
        cells = [cut.pods[pod].get(step) for pod in sorted(cut.pods)]
        table.add_row(words, *("" if at is None else f"{(at - cut.first_stop) * 1e3:.1f}" for at in cells))
    screen.print(table)
