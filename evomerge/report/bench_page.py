"""The report of a comparison of optimizers as one HTML page that needs no other file."""

import time
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from evomerge.report import number_text
from evomerge.report.bench_charts import bench_charts
from evomerge.report.bench_summary import BenchSummary, ProblemSummary
from evomerge.report.bench_table import p_text
from evomerge.report.charts import figure_json, plotly_script


def render_bench_page(
    summary: BenchSummary, settings: Sequence[tuple[str, str]], command: str
) -> str:
    """The HTML of a comparison's report.

    Args:
        summary: The comparison.
        settings: What was run, as name and value.
        command: That makes it again.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, lstrip_blocks=True)
    environment.filters |= {
        "number": number_text.number,
        "signed": number_text.signed,
        "interval": number_text.signed_interval,
        "duration": number_text.duration,
        "p": p_text,
    }
    return environment.from_string(template_text("bench.html")).render(
        summary=summary,
        parts=[
            {
                "of": part,
                "tone": _tone(part),
                "charts": {k: Markup(figure_json(f)) for k, f in bench_charts(part).items()},
            }
            for part in summary.problems
        ],
        style=Markup(page_style()),
        plotly=Markup(plotly_script()),
        settings=settings,
        command=command,
        written=time.strftime("%Y-%m-%d %H:%M", time.localtime()),
    )


def page_style() -> str:
    """The style sheet of the study report, so that both look alike."""
    return template_text("page.html").partition("<style>")[2].partition("</style>")[0]


def template_text(name: str) -> str:
    """A template of this package."""
    return resources.files("evomerge.report").joinpath(name).read_text("utf-8")


def _tone(part: ProblemSummary) -> str:
    """Whether anything is better than the reference."""
    found = [row.comparison.judgement for row in part.rows if row.comparison is not None]
    if "better" in found:
        return "not-better"
    return "better" if found and not part.too_few_seeds else "unclear"
