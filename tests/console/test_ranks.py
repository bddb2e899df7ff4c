"""Lines of one rank: by the labels of the launchers, wherever the pieces of the output end, at all three doors."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from clusteros.ranks import Sorter, label_of
from tests.console.story import Story
from tests.console.test_doors import signed_in
from tests.control.cluster import Nodes

LABELS = [
    ("[1,3]<stdout>:step 7\n", 3, "step 7\n"),
    ("[1,0]<stderr>: warning\n", 0, "warning\n"),
    ("[prterun-pod-0-33@1,12]<stdout>: step\n", 12, "step\n"),
    ("[4] step\n", 4, "step\n"),
    ("step 7 of [3]\n", None, "step 7 of [3]\n"),
    ("[INFO] step\n", None, "[INFO] step\n"),
    ("", None, ""),
]


@pytest.mark.parametrize(("line", "rank", "rest"), LABELS)
def test_the_labels_of_the_launchers_are_known(line: str, rank: int | None, rest: str) -> None:
    assert label_of(line) == (rank, rest)


@given(st.lists(st.integers(1, 30), max_size=20))
def test_lines_are_whole_wherever_pieces_end_behind_a_label(cuts: list[int]) -> None:
    """A label comes in one piece: launchers write it with its line's beginning."""
    text = "[0] one, and a progress bar 10 %\r20 %\n[1] two\nno label\n[0] three"
    ends = [end for end in accumulate(cuts) if end < len(text) and text[end - 1] not in "[01]"]
    sorter, got = Sorter(), ""
    for begin, end in pairwise([0, *ends, len(text)]):
        got += "".join(line for rank, line in sorter.take(text[begin:end]) if rank == 0)
    assert got == "one, and a progress bar 10 %\r20 %\nthree"


@pytest.mark.django_db(transaction=True)
def test_one_rank_is_shown_at_every_door(demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo, ranks_per_pod=2)
    story.start()
    story.print("[1,0]<stdout>:zero\n[1,1]<stdout>:solo\n[1,0]<stdout>:half a ")
    story.print("line\n[1,1]<stdout>:b1\n")
    client, number = signed_in(demo), story.job.number
    first = client.get(f"/api/v1/jobs/{number}/log?rank=0").json()
    assert "".join(item["text"] for item in first["items"]) == "zero\nhalf a line\n"
    assert {item["rank"] for item in first["items"]} == {0}
    second = client.get(f"/api/v1/jobs/{number}/log?rank=0&after={first['items'][0]['id']}").json()
    assert [item["text"] for item in second["items"]] == ["line\n"], "the line's head lies in a piece that was read before"
    assert client.get(f"/api/v1/jobs/{number}/log?rank=6").status_code == 422
    shown = client.get(f"/jobs/{number}/log/?rank=1").content.decode()
    assert "solo" in shown
    assert "zero" not in shown
    assert "rank=1" in shown, "what comes later is asked for by the same rank"
    assert "mpirun --tag-output" in client.get(f"/jobs/{number}/log/?rank=5").content.decode()
