"""What is authentic: envelopes, requests, tickets."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusteros.envelope import (
    TO_CONTROL,
    TO_NODE,
    EnvelopeError,
    check_request,
    check_ticket,
    make_ticket,
    node_of,
    open_sealed,
    seal,
    sign_request,
)

SECRET = "s3cret"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def sealed(**changes: Any) -> dict[str, Any]:
    return {**seal("node1", SECRET, "pod", {"state": "running", "pod": 3}), **changes}


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_was_sealed_comes_out_after_a_journey_as_json(body: dict[str, Any]) -> None:
    import json

    envelope = json.loads(json.dumps(seal("node1", SECRET, "pod", body)))
    assert open_sealed(envelope, SECRET)["body"] == json.loads(json.dumps(body))


@pytest.mark.parametrize("field", ["node", "kind", "id", "sent_at", "body", "mac"])
def test_a_change_of_any_field_is_noticed(field: str) -> None:
    envelope = sealed()
    other = seal("node2", SECRET, "log", {"state": "ended", "pod": 3}, sent_at=1.0)
    envelope[field] = other[field]
    with pytest.raises(EnvelopeError, match="wrong"):
        open_sealed(envelope, SECRET)


def test_a_change_deep_in_the_body_is_noticed() -> None:
    envelope = seal("node1", SECRET, "pod", {"a": [{"b": 1}]})
    changed = copy.deepcopy(envelope)
    changed["body"]["a"][0]["b"] = 2
    with pytest.raises(EnvelopeError):
        open_sealed(changed, SECRET)


def test_another_nodes_secret_does_not_open_it() -> None:
    with pytest.raises(EnvelopeError):
        open_sealed(sealed(), "another")


@pytest.mark.parametrize(
    "broken",
    [None, [], "text", {}, {"node": "n"}, sealed(extra=1), sealed(node="../x"), sealed(body=[]), sealed(sent_at="now"),
     sealed(sent_at=True), sealed(id="17"), sealed(mac=None), sealed(kind=7)],
)  # fmt: skip
def test_what_is_malformed_is_refused_and_not_a_crash(broken: Any) -> None:
    with pytest.raises(EnvelopeError):
        open_sealed(broken, SECRET)
    with pytest.raises(EnvelopeError):
        open_sealed(broken, SECRET, kinds=TO_CONTROL)


def test_a_report_cannot_be_played_back_as_a_command() -> None:
    envelope = sealed()
    assert node_of(envelope) == "node1"
    with pytest.raises(EnvelopeError, match="not a kind"):
        open_sealed(envelope, SECRET, kinds=TO_NODE)


def test_what_is_no_json_cannot_be_sealed() -> None:
    for body in ({"x": float("nan")}, {"x": object()}, {"x": b"bytes"}):
        with pytest.raises(EnvelopeError):
            seal("node1", SECRET, "pod", body)


def test_an_empty_secret_seals_nothing() -> None:
    with pytest.raises(EnvelopeError):
        seal("node1", "", "pod", {})


def request(**changes: Any) -> dict[str, Any]:
    headers = sign_request("node1", SECRET, "PUT", "/a/b?c=1", content_sha256="00", now=1000.0)
    values = list(headers.values())
    given = {"method": "PUT", "path": "/a/b?c=1", "node": values[0], "date": values[1], "content_sha256": values[2], "mac": values[3]}
    return {**given, "now": 1000.0, **changes}


def test_a_signed_request_is_proven() -> None:
    check_request(SECRET, **request())


@pytest.mark.parametrize(
    "change",
    [{"method": "GET"}, {"path": "/a/c?c=1"}, {"node": "node2"}, {"content_sha256": "01"}, {"mac": ""}, {"mac": "ü"},
     {"now": 2000.0}, {"now": 100.0}, {"date": "soon"}],
)  # fmt: skip
def test_a_changed_or_late_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        check_request(SECRET, **request(**change))


def test_a_ticket_tells_who_may_ask() -> None:
    assert check_ticket(make_ticket(SECRET, "node2", 2000.0), SECRET, now=1999.0) == "node2"


@pytest.mark.parametrize("ticket", ["", "a:b", "node2:2000:", "node2:9999:" + "0" * 64, ":::", "node2:2000:" + "0" * 64])
def test_a_forged_ticket_is_refused(ticket: str) -> None:
    with pytest.raises(EnvelopeError):
        check_ticket(ticket, SECRET, now=1.0)


def test_an_expired_or_foreign_ticket_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="expired"):
        check_ticket(make_ticket(SECRET, "node2", 2000.0), SECRET, now=2001.0)
    with pytest.raises(EnvelopeError):
        check_ticket(make_ticket("another", "node2", 2000.0), SECRET, now=1.0)
