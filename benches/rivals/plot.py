"""A plot of the medians, as SVG: for each case a bar for each copier."""

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 150, 150, 14, 18, 40
COLOURS = {"kferry": "#d9480f", "pump": "#868e96", "franz-go": "#1098ad", "mirrormaker2": "#5f3dc4"}


def plot(medians):
    """Of what `compare` has measured; cases without MB/s are left out."""
    rows, y = [], TOP
    medians = {case: by for case, by in medians.items() if all("mb_per_second" in it for it in by.values())}
    most = max((it["mb_per_second"] for by in medians.values() for it in by.values()), default=1)
    for case, by in medians.items():
        middle = y + BAR * len(by) / 2 + 4
        rows.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{case}</text>')
        for copier, it in by.items():
            rate = it["mb_per_second"]
            length = max(1.0, rate / most * (WIDTH - LEFT - RIGHT))
            label = f'{rate:.0f} MB/s, {it["cpu_per_gb"]:.2g} CPU s/GB'
            rows.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[copier]}"/>')
            rows.append(f'<text class="small" x="{LEFT + length + 4:.1f}" y="{y + BAR - 4}">{label}</text>')
            y += BAR
        y += GAP
    legend, x = [], LEFT
    for copier in dict.fromkeys(copier for by in medians.values() for copier in by):
        legend.append(f'<rect x="{x}" y="14" width="10" height="10" fill="{COLOURS[copier]}"/>')
        legend.append(f'<text x="{x + 14}" y="23">{copier}</text>')
        x += 110
    body = "\n".join(legend + rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        'font-family="sans-serif" font-size="12">\n'
        "<style>text { fill: #212529 } .small { font-size: 10px } "
        "@media (prefers-color-scheme: dark) { text { fill: #dee2e6 } }</style>\n"
        f"{body}\n</svg>\n"
    )
