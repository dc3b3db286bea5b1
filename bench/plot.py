"""Writes bar charts as SVG without a library. The same figures give the same bytes."""
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 150, 70, 26, 44
# Both are visible on white and on black. Without colour, their order distinguishes them.
COLOURS = ("#2f7ed8", "#9aa5b1")
TEXT = "#808890"


def bars(title, rows, parts):
    """Draws one stacked bar for each name. rows: name → values in the order of `parts`."""
    longest = max(sum(values) for values in rows.values())
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(rows) + 10
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
             f'font-family="sans-serif" font-size="13" fill="{TEXT}">', f"<title>{escape(title)}</title>",
             f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>', *legend(parts)]
    for row, (name, values) in enumerate(rows.items()):
        y, x = TOP + ROW * row, LEFT
        lines.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for value, colour in zip(values, COLOURS):
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{value * scale:.1f}" height="{ROW - 6}" fill="{colour}"/>')
            x += value * scale
        lines.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{sum(values):,.1f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def legend(parts):
    x = LEFT
    for part, colour in zip(parts, COLOURS):
        yield f'<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/><text x="{x + 15}" y="35">{escape(part)}</text>'
        x += 90
