"""The report of a comparison: one HTML file that holds everything and asks the network for nothing.

Figures stand in it as SVG whose text can be read, searched and enlarged. The page's style is inside of it
and it has no script; a content security policy forbids what it does not need.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_tuner._version import __version__
from rl_tuner.analysis import Analysis
from rl_tuner.comparison import Comparison
from rl_tuner.figures import colour
from rl_tuner.files import write_bytes
from rl_tuner.inline_svg import inline_svg, themed
from rl_tuner.report_curves import by_score
from rl_tuner.report_figures import plots
from rl_tuner.report_findings import findings, headline
from rl_tuner.report_tables import columns, control_rows, job_rows, kind_rows, probabilities, summary_rows

if TYPE_CHECKING:
    from markupsafe import Markup

KNOWN = ("command", "controls", "static_setting", "settings", "versions", "files")
"""What the page has a place for; any other entry of the provenance is a line of its list."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure in the page.

    Attributes:
        name: Its file's name, without the ending.
        title: Its heading.
        about: What it shows.
        svg: An ``<svg>`` element.
    """

    name: str
    title: str
    about: str
    svg: str


def write_report(
    comparison: Comparison, analysis: Analysis, provenance: Mapping[str, Any], folder: Path
) -> list[Path]:
    """Writes ``report.html`` and every figure as a PNG file beside it, each whole or not at all.

    Args:
        comparison: The runs.
        analysis: Of them.
        provenance: Where it comes from. "command" is a line that runs it again, "settings" and "versions" are
            mappings, "controls" names the methods that are a policy's controls (``<policy>-<kind>``),
            "static_setting" is a mapping, the setting chosen on the train split, "files" what lies beside the
            report. Each may be missing; anything else is printed as it is.
        folder: Where to; it must exist.

    Returns:
        The paths, the page's first.

    Raises:
        OSError: A file cannot be written.
    """
    drawings, paths = {}, []
    for plot in plots(analysis):
        with themed(plot.name):
            figure = plot.draw(comparison, analysis)
            svg = inline_svg(figure, plot.name, f"{plot.title}: {plot.about}")
            content = io.BytesIO()
            figure.savefig(content, format="png")
        drawings[plot.name] = Drawing(plot.name, plot.title, plot.about, svg)
        paths.append(folder / f"{plot.name}.png")
        write_bytes(paths[-1], content.getvalue())
    files = [*map(str, provenance.get("files", ())), *(path.name for path in paths)]
    page = render(comparison, analysis, {**provenance, "files": files}, drawings)
    write_bytes(folder / "report.html", page.encode())
    return [folder / "report.html", *paths]


def render(
    comparison: Comparison,
    analysis: Analysis,
    provenance: Mapping[str, Any],
    drawings: Mapping[str, Drawing],
) -> str:
    """The page's text; see `write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("rl_tuner")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["named"] = _name_marker(comparison.methods)
    controls = list(provenance.get("controls", ()))
    return environment.get_template("report.html.j2").render(
        headline=headline(analysis),
        findings=findings(comparison, analysis, controls),
        analysis=analysis,
        baseline=comparison.baseline,
        tones={name: colour(comparison, name) for name in comparison.methods},
        order=[method.method for method in by_score(analysis)],
        columns=columns(comparison, analysis),
        summary_rows=summary_rows(comparison, analysis),
        probabilities=probabilities(analysis),
        control_rows=control_rows(analysis, controls),
        controls=controls,
        kind_rows=kind_rows(analysis),
        job_rows=job_rows(comparison, analysis),
        drawings=drawings,
        static_setting=_pairs(provenance.get("static_setting")),
        command=provenance.get("command"),
        settings=_pairs(provenance.get("settings")),
        versions=_pairs(provenance.get("versions")),
        other=_pairs({key: value for key, value in provenance.items() if key not in KNOWN}),
        files=sorted({Path(name).name for name in provenance.get("files", ())}),
        version=__version__,
    )


def _name_marker(methods: Sequence[str]) -> Callable[[str], Markup]:
    """Sets the methods' names off from the words around them."""
    from markupsafe import Markup

    longest_first = "|".join(re.escape(name) for name in sorted(methods, key=len, reverse=True))
    # No name begins or ends within a longer one: neither default in default-blind, nor random in random@16.
    pattern = re.compile(rf"(?<![\w@/+.-])(?:{longest_first})(?![\w@/+-])")

    def mark(text: str) -> Markup:
        parts, end = Markup(""), 0
        for found in pattern.finditer(text):
            parts += Markup.escape(text[end : found.start()])
            parts += Markup('<span class="name">{}</span>').format(found[0])
            end = found.end()
        return parts + Markup.escape(text[end:])

    return mark


def _pairs(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """A mapping as names and texts, nested names after one another; anything else as one line."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [(prefix, value if isinstance(value, str) else _text(value))]
    return [
        pair
        for key, item in value.items()
        for pair in _pairs(item, f"{prefix}: {key}" if prefix else str(key))
    ]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
