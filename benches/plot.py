"""Pause and new bytes against memory and share of changed pages, as an SVG of our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 520, 300, 60
COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e44ad")
Series = dict[str, Sequence[tuple[float, float]]]


def chart(title: str, x_words: str, y_words: str, series: Series, left: int) -> list[str]:
    """One chart whose lower left corner of axes is at the origin."""
    x_max = max(x for points in series.values() for x, _ in points) or 1.0
    y_max = max(y for points in series.values() for _, y in points) or 1.0
    high, wide = HEIGHT - 2 * MARGIN, WIDTH - 2 * MARGIN

    def at(x: float, y: float) -> str:
        return f"{left + MARGIN + x / x_max * wide:.1f},{HEIGHT - MARGIN - y / y_max * high:.1f}"

    parts = [
        f'<text x="{left + WIDTH / 2}" y="24" text-anchor="middle" font-weight="bold">{title}</text>',
        f'<polyline points="{at(0, y_max)} {at(0, 0)} {at(x_max, 0)}" fill="none" stroke="#555"/>',
        f'<text x="{left + WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{x_words}</text>',
        f'<text x="{left + 8}" y="{MARGIN - 14}">{y_words}</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = at(0, y_max * share).split(",")[1]
        parts.append(f'<text x="{left + MARGIN - 6}" y="{y}" text-anchor="end">{y_max * share:.3g}</text>')
        x = at(x_max * share, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{x_max * share:.3g}</text>')
    for k, (name, points) in enumerate(series.items()):
        colour = COLOURS[k % len(COLOURS)]
        parts.append(f'<polyline points="{" ".join(at(x, y) for x, y in points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{at(x, y).split(",")[0]}" cy="{at(x, y).split(",")[1]}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{left + MARGIN + 10}" y="{MARGIN + 14 * k}" fill="{colour}">{name}</text>')
    return parts


def write(path: Path, pause: Series, size: Series) -> None:
    """Two charts side by side."""
    body = chart("Pause", "% of pages changed", "ms", pause, 0) + chart("New bytes", "% of pages changed", "MB", size, WIDTH)
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" {style}>'
    path.write_text("\n".join([head, f'<rect width="{2 * WIDTH}" height="{HEIGHT}" fill="#fff"/>', *body, "</svg>"]) + "\n")
