"""How much this node sends and receives, from the kernel's counters of the device that has its underlay's address (of all but
the loopback where none has it). Between two looks, in bytes a second; counters that went back (a new device) count as nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

DEVICES = Path("/proc/self/net/dev")
IN_COLUMN, OUT_COLUMN = 0, 8
Counters = tuple[int, int]


def device_of(address: str) -> str:
    """The device that has the address, or nothing."""
    try:
        with IPRoute() as routes:
            found = routes.get_addr(address=address)
            return str(routes.get_links(found[0]["index"])[0].get_attr("IFLA_IFNAME")) if found else ""
    except (OSError, NetlinkError, LookupError):
        return ""


def counters(text: str, device: str) -> Counters:
    """(bytes in, bytes out) of the device, of all but the loopback when it has no line of its own."""
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    figures = {name.strip(): [int(word) for word in words.split()] for name, words in rows.items()}
    chosen = [figures[device]] if device in figures else [row for name, row in figures.items() if name != "lo"]
    return sum(row[IN_COLUMN] for row in chosen), sum(row[OUT_COLUMN] for row in chosen)


class Traffic:
    def __init__(self, address: str) -> None:
        self._device = device_of(address)
        self._last: tuple[float, Counters] | None = None

    def figures(self) -> dict[str, int]:
        """net_in_bytes_per_s and net_out_bytes_per_s since the last call; nothing with the first."""
        now, seen = time.monotonic(), counters(DEVICES.read_text(), self._device)
        last, self._last = self._last, (now, seen)
        if last is None or now <= last[0]:
            return {}
        rates = [max(0, round((new - old) / (now - last[0]))) for new, old in zip(seen, last[1], strict=True)]
        return {"net_in_bytes_per_s": rates[0], "net_out_bytes_per_s": rates[1]}
