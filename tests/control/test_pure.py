"""The pure parts: state graphs, placement, retention; by property where there is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints.models import GENERATION_GRAPH, RESUME_GRAPH, SNAPSHOT_GRAPH
from checkpoints.retention import SPANS_S, Kept, Rule, expendable
from clusteros.core.states import GraphError, StateGraph
from jobs.models import JOB_GRAPH, POD_GRAPH, RUN_GRAPH
from nodes.models import NODE_GRAPH
from nodes.placement import GIB, NodeRoom, PodRequest, Refusal, fits_empty, place, place_preferring_cores

NODE_NAMES = st.sampled_from([f"n{k}" for k in range(6)])


@st.composite
def rooms(draw: st.DrawFn) -> list[NodeRoom]:
    names = draw(st.lists(NODE_NAMES, unique=True, max_size=6))
    made = []
    for name in names:
        cores, memory = draw(st.integers(1, 16)), draw(st.integers(1, 16)) * GIB
        used, used_memory = draw(st.integers(0, cores)), draw(st.integers(0, memory // GIB)) * GIB
        made.append(NodeRoom(name, cores, memory, cores - used, memory - used_memory))
    return made


requests = st.builds(
    PodRequest, pods=st.integers(1, 12), cores=st.integers(1, 16), mem_bytes=st.integers(0, 8).map(lambda g: g * GIB),
    policy=st.sampled_from(["spread", "pack"]), overcommit_cores=st.booleans(),
)  # fmt: skip


@given(rooms(), requests)
def test_a_placement_never_gives_more_than_a_node_has(nodes: list[NodeRoom], request: PodRequest) -> None:
    answer = place(nodes, request)
    if isinstance(answer, Refusal):
        assert answer.words
        return
    assert sorted(answer) == list(range(request.pods))
    for node in nodes:
        pods = list(answer.values()).count(node.name)
        assert pods * request.mem_bytes <= node.free_mem_bytes or pods == 0
        assert request.overcommit_cores or pods * request.cores <= max(0, node.free_cores)


@given(rooms(), requests)
def test_a_placement_is_the_same_whatever_the_order_of_nodes(nodes: list[NodeRoom], request: PodRequest) -> None:
    assert place(nodes, request) == place(nodes[::-1], request) or isinstance(place(nodes, request), Refusal)


@given(rooms(), requests)
def test_never_means_that_even_empty_nodes_would_not_do(nodes: list[NodeRoom], request: PodRequest) -> None:
    answer = place(nodes, request)
    if isinstance(answer, Refusal) and answer.never:
        assert fits_empty(nodes, request) is not None


@given(rooms(), requests)
def test_a_restore_is_refused_for_memory_only(nodes: list[NodeRoom], request: PodRequest) -> None:
    answer = place_preferring_cores(nodes, request)
    slots = sum(n.free_mem_bytes // request.mem_bytes if request.mem_bytes else request.pods for n in nodes)
    assert isinstance(answer, Refusal) == (slots < request.pods)


def test_spread_uses_every_node_and_pack_as_few_as_it_can() -> None:
    nodes = [NodeRoom(f"n{k}", 8, 8 * GIB, 8, 8 * GIB) for k in range(3)]
    assert set(place(nodes, PodRequest(3, 2, GIB)).values()) == {"n0", "n1", "n2"}  # type: ignore[union-attr]
    assert set(place(nodes, PodRequest(3, 2, GIB, policy="pack")).values()) == {"n0"}  # type: ignore[union-attr]


def test_a_refusal_says_what_is_missing() -> None:
    nodes = [NodeRoom("n0", 4, 8 * GIB, 4, 8 * GIB)]
    answer = place(nodes, PodRequest(1, 9, GIB))
    assert isinstance(answer, Refusal)
    assert answer.words == "needs 9 cores on one node, the largest has 4"
    assert answer.never
    busy = place([NodeRoom("n0", 4, 8 * GIB, 1, 8 * GIB)], PodRequest(1, 2, GIB))
    assert isinstance(busy, Refusal)
    assert not busy.never
    assert "n0 1 core " in busy.words


def test_a_wish_is_followed_or_refused_never_ignored() -> None:
    nodes = [NodeRoom(f"n{k}", 4, 8 * GIB, 4, 8 * GIB) for k in range(2)]
    assert place(nodes, PodRequest(2, 1, GIB, wanted={0: "n1", 1: "n1"})) == {0: "n1", 1: "n1"}
    refused = place(nodes, PodRequest(1, 1, GIB, wanted={0: "gone"}))
    assert isinstance(refused, Refusal)
    assert "gone" in refused.words


kept = st.builds(
    Kept, number=st.integers(1, 40), pinned=st.booleans(), in_use=st.booleans(),
    bases=st.frozensets(st.integers(1, 40), max_size=2), taken_at_s=st.floats(0, 1e6),
)  # fmt: skip
rules = st.builds(Rule, keep=st.integers(0, 10), every=st.integers(0, 6), per=st.sampled_from(["", "hour", "day"]))


@given(st.lists(kept, unique_by=lambda g: g.number), rules)
def test_retention_never_takes_the_last_the_pinned_the_used_or_what_they_need(found: list[Kept], rule: Rule) -> None:
    gone = set(expendable(found, rule))
    left = [g for g in found if g.number not in gone]
    if found:
        assert max(g.number for g in found) not in gone
    assert not gone & {g.number for g in found if g.pinned or g.in_use}
    assert not gone & {base for g in left for base in g.bases}
    assert len(left) >= min(rule.keep, len(found))
    assert not rule.every or not any(number % rule.every == 0 for number in gone)
    spans = {g.taken_at_s // SPANS_S[rule.per] for g in found} if rule.per else set()
    assert spans == ({g.taken_at_s // SPANS_S[rule.per] for g in left} if rule.per else set())


@given(st.lists(kept, unique_by=lambda g: g.number), rules)
def test_retention_done_twice_takes_nothing_more(found: list[Kept], rule: Rule) -> None:
    gone = set(expendable(found, rule))
    assert expendable([g for g in found if g.number not in gone], rule) == []


def test_retention_keeps_the_last_every_kth_and_the_first_of_each_span() -> None:
    found = [Kept(n, taken_at_s=n * 1200.0) for n in range(1, 31)]  # three an hour
    left = {n for n in range(1, 31)} - set(expendable(found, Rule(2, every=10)))
    assert left == {10, 20, 29, 30}
    assert set(expendable(found, Rule(1, per="hour"))) == {n for n in range(1, 30) if n % 3 and n > 1}
    assert Rule(5, 10, "day").words() == "the last 5, every 10th and the first of every day"


@pytest.mark.parametrize("graph", [JOB_GRAPH, RUN_GRAPH, POD_GRAPH, NODE_GRAPH, GENERATION_GRAPH, SNAPSHOT_GRAPH, RESUME_GRAPH])
def test_every_state_of_every_graph_can_be_reached_and_left_or_is_final(graph: StateGraph) -> None:
    assert graph.states[0] == graph.initial or graph.initial in graph.states
    assert all(graph.allows(graph.initial, s) or any(graph.allows(o, s) for o in graph.states) for s in graph.states[1:])


@pytest.mark.parametrize(
    ("moves", "words"),
    [
        ({"a": ["b"]}, "leads to"),
        ({"a": ["a"]}, "itself"),
        ({"b": []}, "initial"),
        ({"a": [], "b": []}, "nothing leads to"),
    ],
)
def test_a_graph_that_does_not_hold_together_is_refused_when_it_is_declared(moves: dict[str, list[str]], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        StateGraph("thing", "a", moves)
