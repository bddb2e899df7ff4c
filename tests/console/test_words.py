"""Quantities in words and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusteros import words


@pytest.mark.parametrize(("text", "size"), [("1024", 1024), ("512M", 512 << 20), ("2GiB", 2 << 30), ("1.5g", 3 << 29), (" 7 kB ", 7168)])
def test_sizes_are_read_as_powers_of_1024(text: str, size: int) -> None:
    assert words.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "12Q", "-1", "1e9", "12 34", "0x10"])
def test_what_is_not_a_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 512M"):
        words.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("10m", 600), ("10 min", 600), ("1h30m", 5400), ("2d", 172800), ("01:30:00", 5400), ("01:30", 5400)],
)
def test_times_are_read_in_the_units_that_people_write(text: str, seconds: int) -> None:
    assert words.parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "1:2:3:4", "5m later", "-3s", "1:75"])
def test_what_is_not_a_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 30s"):
        words.parse_span(text)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_every_size_has_words_with_a_unit(size: int) -> None:
    number, unit = words.size_words(size).split(" ")
    assert unit in ("B", "KiB", "MiB", "GiB", "TiB")
    assert float(number) >= 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (11400, "3 h 10 min"), (345600, "4 days")]
)
def test_spans_have_at_most_two_units(seconds: int, said: str) -> None:
    assert words.span_words(seconds) == said


def test_ago_counts_from_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.ago_words(now - timedelta(seconds=40), now) == "40 s ago"
    assert words.ago_words(None, now) == "never"
