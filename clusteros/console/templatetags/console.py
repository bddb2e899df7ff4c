"""Filters and tags of the templates: quantities in words, a state with its colour, a gauge, the main menu."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from clusteros import thennow
from clusteros.words import ago_words, count_words, ms_words, size_words, span_words

register = template.Library()

STATE_CLASS = {
    "running": "good", "completed": "good", "complete": "good", "up": "good",
    "failed": "bad", "lost": "bad",
    "held": "warn", "suspended": "warn", "frozen": "warn", "draining": "warn", "drained": "warn",
    "starting": "busy", "restoring": "busy", "taking": "busy", "storing": "busy", "placing": "busy", "ending": "busy",
}  # fmt: skip

PLACES = (("cluster", "Cluster"), ("jobs", "Jobs"), ("nodes", "Nodes"), ("store", "Store"), ("events", "Events"), ("tokens", "Tokens"))
ADMIN_PLACES = (("users", "Users"),)
LAST_PLACES = (("about", "About"),)

register.filter("size", size_words)
register.filter("span", span_words)
register.filter("ms", ms_words)
register.filter("count", count_words)


@register.filter
def state(value: str) -> SafeString:
    """The state as a coloured label; the word itself is always there."""
    return format_html('<span class="state {}">{}</span>', STATE_CLASS.get(value, ""), value)


@register.filter
def ago(then: datetime | None) -> SafeString:
    """'40 s ago', kept right by the page; the exact time as its title."""
    if then is None:
        return mark_safe("never")
    exact = f"{then:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time data-ago datetime="{}" title="{}">{}</time>', then.isoformat(), exact, ago_words(then))


@register.filter
def clock(then: datetime | None) -> SafeString:
    if then is None:
        return mark_safe("–")
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', then.isoformat(), f"{then:%Y-%m-%d %H:%M:%S}", f"{then:%H:%M:%S}")


@register.inclusion_tag("console/parts/gauge.html")
def gauge(name: str, used: float | None, total: float | None, words: str = "", calm: bool = False) -> dict[str, Any]:
    """A bar of used over total with its words, or the two numbers. `calm`: to be full is no cause for alarm."""
    percent = round(100 * (used or 0) / total) if total else 0
    heat = "" if calm else "hot" if percent >= 95 else "warm" if percent >= 80 else ""
    return {"name": name, "percent": max(0, min(100, percent)), "heat": heat, "words": words or f"{used} of {total}"}


@register.simple_tag(takes_context=True)
def main_places(context: template.Context) -> list[dict[str, Any]]:
    request = context["request"]
    more = ADMIN_PLACES if getattr(request.user, "is_staff", False) else ()
    return [_place(name, words, request.path) for name, words in (*PLACES, *more, *LAST_PLACES)]


def _place(name: str, words: str, path: str) -> dict[str, Any]:
    url = reverse(f"console:{name}")
    return {"name": name, "words": words, "url": url, "here": path == url or (url != "/" and path.startswith(url))}


@register.filter
def command_line(argv: list[str]) -> str:
    import shlex

    return shlex.join(argv)


@register.simple_tag
def event_words(event: Any) -> SafeString:
    """'generation 3: storing, complete' and what is said beside it; failures stand out."""
    noun, _, verb = event.kind.partition(".")
    bad = "bad" if verb in ("failed", "lost") else ""
    what = f"{_subject(event, noun)} {verb.replace('_', ' ')}".strip()
    words = f": {event.words}" if event.words else ""
    return format_html('<span class="{}"><strong>{}</strong>{}</span>', bad, what, words)


def _subject(event: Any, noun: str) -> str:
    if noun == "generation" and event.generation is not None:
        return f"generation {event.generation}"
    if noun in ("pod", "snapshot") and event.pod is not None:
        where = f" on {event.node}" if event.node else ""
        return f"{noun} {event.pod}{where}"
    return "" if noun in ("job", "node") else noun


@register.filter
def highlight(line: str, text: str) -> SafeString:
    """The line with every place of `text` marked, in whatever case."""
    low, wanted, at, parts = line.lower(), text.lower(), 0, []
    while wanted and len(low) == len(line) and (place := low.find(wanted, at)) >= 0:
        parts.append(format_html("{}<mark>{}</mark>", line[at:place], line[place : place + len(wanted)]))
        at = place + len(wanted)
    return format_html("{}{}", mark_safe("".join(parts)), line[at:])


@register.filter
def unlocalized(value: float | None) -> str:
    """A number for a program to read."""
    return f"{value or 0:g}" if isinstance(value, float) else str(value or 0)


@register.filter
def ran_for(job: Any) -> str:
    end = job.ended_at or timezone.now()
    return span_words((end - job.started_at).total_seconds()) if job.started_at else "–"


@register.filter
def obstacle(value: Any) -> str:
    """{pid, fd, address, words, pod} as a sentence part."""
    if not isinstance(value, dict):
        return str(value)
    where = f"process {value['pid']}" if value.get("pid") else ""
    if isinstance(value.get("fd"), int) and value["fd"] >= 0:
        where = f"{where}, descriptor {value['fd']}".lstrip(", ")
    if isinstance(value.get("address"), int) and value["address"] > 0:
        where = f"{where}, memory at {value['address']:#x}".lstrip(", ")
    if where and isinstance(value.get("pod"), int):
        where = f"pod {value['pod']}, {where}"
    return f"{value.get('words', '')} ({where})" if where else str(value.get("words", ""))


@register.filter
def process(value: Any) -> str:
    """A process of a pod: a bare pid, or {pid, name, …}."""
    if not isinstance(value, dict):
        return str(value)
    return f"{value.get('pid', '')} {value.get('comm') or value.get('name') or ''}".strip()


@register.filter
def then_now(difference: Any) -> list[thennow.Row]:
    """A generation's resources beside today's."""
    return thennow.rows(difference.as_json())


@register.filter
def findings(doctor: Any) -> list[tuple[str, str]]:
    """What `native doctor` found beside its probes, as (name, words)."""
    if not isinstance(doctor, dict):
        return []
    told = {name: value for name, value in doctor.items() if name not in ("event", "probes", "missing", "reduced", "uid")}
    return [(str(name).replace("_", " "), _finding(value)) for name, value in told.items()]


@register.filter
def probes(doctor: Any) -> list[dict[str, Any]]:
    """The probes of `native doctor`, what is missing first."""
    found = doctor.get("probes") if isinstance(doctor, dict) else None
    return sorted((each for each in found or [] if isinstance(each, dict)), key=lambda each: bool(each.get("ok")))


def _finding(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_finding(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_finding(each) for each in value) or "–"
    return str(value)
