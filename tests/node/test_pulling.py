"""Chunks from several sources at once, and the bandwidth that replicas keep to."""

from __future__ import annotations

import threading
import time

import pytest

from native.engine import EngineError
from nodes.agent.pulling import BATCH, Meter, pull

MANY = [f"{k:064x}" for k in range(10 * BATCH)]


class Here:
    """What arrived."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self._lock = threading.Lock()

    def take(self, digests: list[str]) -> None:
        with self._lock:
            self.got += digests

    def missing(self, digests: list[str]) -> list[str]:
        return [digest for digest in digests if digest not in set(self.got)]


def test_all_sources_serve_side_by_side_and_nothing_comes_twice() -> None:
    here, both = Here(), threading.Barrier(2)
    served: dict[str, int] = {}

    def serve(name: str, batch: list[str]) -> None:
        if name not in served:
            both.wait(10)  # broken unless the other source is asked meanwhile
        served[name] = served.get(name, 0) + 1
        here.take(batch)

    pull(MANY, {name: lambda batch, name=name: serve(name, batch) for name in ("a", "b")}, here.missing)  # type: ignore[misc]
    assert sorted(here.got) == MANY
    assert set(served) == {"a", "b"}


def test_what_a_source_fails_to_give_comes_from_the_other_also_when_that_one_had_finished() -> None:
    here, idle = Here(), threading.Event()

    def dies_late(batch: list[str]) -> None:
        here.take(batch[:5])
        idle.wait(10)
        raise EngineError("IO", "gone")

    def serves(batch: list[str]) -> None:
        here.take(batch)
        if len(here.got) >= len(MANY) - BATCH:
            idle.set()

    pull(MANY, {"late": dies_late, "good": serves}, here.missing)
    assert sorted(here.got) == MANY, "the five that came are not fetched again"


def test_what_nobody_gives_is_refused_with_the_words_of_each() -> None:
    def says(words: str) -> None:
        raise EngineError("BAD_IMAGE", words)

    with pytest.raises(EngineError) as caught:
        pull(MANY, {"a": lambda batch: says("torn"), "b": lambda batch: says("worn")}, lambda batch: batch)
    assert caught.value.code.name == "BAD_IMAGE"
    assert all(words in caught.value.message for words in ("from a: torn", "from b: worn"))


def test_no_source_is_an_error_and_nothing_wanted_is_none() -> None:
    pull([], {}, lambda batch: batch)
    with pytest.raises(EngineError, match="no source"):
        pull(MANY, {}, lambda batch: batch)


def test_takers_of_a_meter_keep_to_its_bound_together() -> None:
    meter, size = Meter(1_000_000), 50_000

    def takes() -> None:
        for _ in range(5):
            meter.take(size)

    begin = time.monotonic()
    takers = [threading.Thread(target=takes) for _ in range(3)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert time.monotonic() - begin >= 15 * size / 1_000_000 - 2 * Meter.BURST_S


def test_without_a_bound_nobody_waits() -> None:
    begin = time.monotonic()
    Meter(0).take(1 << 40)
    assert time.monotonic() - begin < 1
