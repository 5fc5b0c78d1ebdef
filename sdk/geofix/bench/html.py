"""Reports as a page that stands alone: no script, no network, plots drawn into it."""

from collections.abc import Iterator, Sequence
from html import escape

from geofix.bench.plots import distribution, latency_against_recall, stage_bars
from geofix.bench.report import STAGES, LatencyReport
from geofix.bench.table import conditions, device_rows, facts, headline, name_of

_STYLE = """
body { font: 15px/1.5 sans-serif; color: #282828; background: #fff; margin: 2em auto;
       max-width: 1200px; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }
th, td { padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: right; }
td { white-space: nowrap; } th { vertical-align: bottom; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
dt { font-weight: bold; float: left; clear: left; width: 8em; } dd { margin: 0 0 0 8.5em; }
svg { max-width: 100%; height: auto; } h2 { margin-top: 2em; }
"""
_NO_RECALL = (
    "No photo said where it was taken, so that nothing is known of recall: give --images with "
    "photos that have a GPS position in their EXIF."
)


def html_page(reports: Sequence[LatencyReport]) -> str:
    """Return the device table, plots, and all figures of each run."""
    return "\n".join(_page(reports)) + "\n"


def _page(reports: Sequence[LatencyReport]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    # Keeps the promise: a browser that follows it loads nothing and runs nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>Latency by device</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield "<h1>Latency by device</h1>"
    for report in reports:
        yield f"<p>{escape(headline(report))}</p>"
    yield _table(*device_rows(reports))
    yield from (f"<p>{escape(sentence)}</p>" for sentence in conditions(reports))
    yield stage_bars(reports).svg(title="Median by stage")
    yield distribution(reports).svg(title="Distribution of latency")
    against = latency_against_recall(reports)
    yield f"<p>{_NO_RECALL}</p>" if against is None else against.svg(title="Latency and recall")
    for report in reports:
        yield from _run(report)
    yield "</body>\n</html>"


def _run(report: LatencyReport) -> Iterator[str]:
    yield f"<h2>{escape(name_of(report))}</h2>"
    titles = ["stage", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "max ms", "calls"]
    rows = [
        [
            STAGES[name],
            *(f"{ms:.3f}" for ms in (s.p50_ms, s.p90_ms, s.p95_ms, s.p99_ms, s.max_ms)),
            str(s.num),
        ]
        for name, s in report.stages.items()
    ]
    yield _table(titles, rows)
    listed = "".join(f"<dt>{escape(n)}</dt><dd>{escape(t)}</dd>" for n, t in facts(report))
    yield f"<dl>{listed}</dl>"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
