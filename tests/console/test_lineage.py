"""The tree of generations in lanes: properties of the layout, and the picture made from it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from clusteros import lineage
from clusteros.console import graph

Parents = dict[int, int | None]


@st.composite
def trees(draw: st.DrawFn) -> tuple[Parents, int | None]:
    """Generations 1…n, each with an earlier parent (or none), some of them deleted; and where "now" stands."""
    count = draw(st.integers(min_value=0, max_value=25))
    parents: Parents = {}
    for number in range(1, count + 1):
        parents[number] = draw(st.one_of(st.none(), st.integers(1, number - 1))) if number > 1 else None
    for number in draw(st.sets(st.sampled_from(sorted(parents)), max_size=5)) if parents else set():
        del parents[number]
    return parents, draw(st.sampled_from([None, *sorted(parents)]))


@given(trees())
def test_every_generation_stands_in_one_row_newest_first(tree: tuple[Parents, int | None]) -> None:
    parents, now = tree
    assert [row.number for row in lineage.lay_out(parents, now)] == sorted(parents, reverse=True)


@given(trees())
def test_the_line_to_now_is_the_first_lane(tree: tuple[Parents, int | None]) -> None:
    parents, now = tree
    lanes = {row.number: row.lane for row in lineage.lay_out(parents, now)}
    assert all(lanes[number] == 0 for number in lineage.now_line(parents, now))


@given(trees())
def test_no_circle_stands_on_a_line_that_passes_by(tree: tuple[Parents, int | None]) -> None:
    parents, now = tree
    for row in lineage.lay_out(parents, now):
        assert row.lane not in row.passing


@given(trees())
def test_every_known_parent_is_joined_to_its_children(tree: tuple[Parents, int | None]) -> None:
    parents, now = tree
    rows = {row.number: row for row in lineage.lay_out(parents, now)}
    for number, parent in parents.items():
        if parent not in parents:
            assert not rows[number].has_parent
            continue
        assert rows[number].has_parent
        same = rows[number].lane == rows[parent].lane
        assert rows[parent].has_child_in_lane if same else rows[number].lane in rows[parent].forks


def test_a_rollback_draws_a_branch() -> None:
    rows = lineage.lay_out({1: None, 2: 1, 3: 2, 4: 2}, now=4)
    assert [(row.number, row.lane) for row in rows] == [(4, 0), (3, 1), (2, 0), (1, 0)]
    assert rows[1].passing == [0]
    assert rows[2].forks == [1]


def test_now_is_joined_to_its_generation_past_newer_ones() -> None:
    strips, _ = graph.strips({1: None, 2: 1, 3: 1}, now=1)
    above = [strip for strip in strips if strip.number > 1]
    assert all(any(line.x1 == line.x2 == graph.x_of(0) and line.y2 == "100%" for line in strip.lines) for strip in above)


def test_a_thousand_generations_are_laid_out_in_reasonable_width() -> None:
    chance = random.Random(7)
    parents: Parents = {1: None}
    for number in range(2, 1001):
        parents[number] = number - 1 if chance.random() < 0.97 else chance.randint(1, number - 1)
    assert lineage.width(lineage.lay_out(parents, 1000)) < 60
