"""One page that needs nothing else, from the template beside this module."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from clients.bench.report.charts import cost_chart, curve_charts, distribution_charts
from clients.bench.report.tables import footnotes, sheets_of
from clients.bench.result import Result

__all__ = ["page_of"]


def page_of(result: Result) -> str:
    """The HTML."""
    templates = Environment(
        loader=PackageLoader("clients.bench", "report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    subjects = [
        {
            "model": subject.model,
            "image": subject.image,
            "curves": curve_charts(subject),
            "distributions": distribution_charts(subject),
            "sheets": sheets_of(subject),
            "notes": footnotes(subject),
        }
        for subject in result.subjects
    ]
    return templates.get_template("page.html").render(
        result=result, subjects=subjects, cost=cost_chart(result.subjects), environment=_environment(result)
    )


def _environment(result: Result) -> list[tuple[str, str]]:
    """Every entry as text."""

    def text(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "none"
        if isinstance(value, list):
            return ", ".join(map(str, value)) or "none"
        return "unknown" if value is None else str(value)

    return [(name.replace("_", " "), text(value)) for name, value in result.environment.items()]
