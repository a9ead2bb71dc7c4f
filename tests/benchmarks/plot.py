"""The number of requests by the number of nodes, drawn as SVG."""

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50

Counts = Mapping[int, tuple[int, int]]


def draw(counts: Counts) -> str:
    """Both axes are logarithmic: what is linear in N has the slope 1."""
    sizes = sorted(counts)
    most_x, most_y = math.log10(max(sizes)), math.log10(max(f for f, _ in counts.values()) * 1.5)

    def x(size: float) -> float:
        return LEFT + math.log10(size) / most_x * (WIDTH - LEFT - RIGHT)

    def y(number: float) -> float:
        return HEIGHT - BOTTOM - math.log10(number) / most_y * (HEIGHT - TOP - BOTTOM)

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        drawn = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        return f'<polyline points="{drawn}" fill="none" {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        "<title>Requests to CouchDB by number of nodes</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(int(most_y) + 1):
        at = y(10**power)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power}</text>'
        )
    parts += [
        f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{size}</text>'
        for size in sizes
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">nodes (N)</text>')
    series = (("fresh", 0, "#c2410c", 8, 10), ("done already", 1, "#1d4ed8", 4, 6))
    for row, (name, at, colour, slope, constant) in enumerate(series):
        steps = [max(sizes) ** (step / 40) for step in range(41)]
        bound = [(size, slope * size + constant) for size in steps]
        parts.append(line(bound, f'stroke="{colour}" stroke-dasharray="4 4"'))
        parts.append(line([(s, counts[s][at]) for s in sizes], f'stroke="{colour}"'))
        parts += [
            f'<circle cx="{x(s):.1f}" cy="{y(counts[s][at]):.1f}" r="4" fill="{colour}"/>'
            for s in sizes
        ]
        parts.append(
            f'<text x="{LEFT + 16}" y="{TOP + 16 + 20 * row}" fill="{colour}">{name}; '
            f"dashed: the promise, {slope}·N + {constant}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
