"""Pages: views filled into the templates, and charts beside them, all written whole.

report.sha256 names every file of a report by its hash, as `sha256sum --check` reads it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysubset.faultpoints import reach
from raysubset.files import write_text
from raysubset.report.palette import DARK, LIGHT, css_variables
from raysubset.report.svg import inlined, svg_of
from raysubset.report.table import markdown_table
from raysubset.report.wording import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMS = "report.sha256"
_TICKS = re.compile(r"`([^`]*)`")
_TICKED = re.compile(r"\\`([^`\\&]*)\\`")  # what `markdown` made of a command in backticks


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure with its words.

    Attributes:
        name: of its file and of its ids in a page.
        title: what stands over it.
        reading: how to read it, in a sentence or two.
        svg: the file's content.
    """

    name: str
    title: str
    reading: str
    svg: str

    @property
    def inline(self) -> str:
        """The SVG for the inside of a page."""
        return inlined(self.svg, self.name, self.title)


def charts_of(drawn: Iterable[tuple[str, str, str, Figure | None]]) -> list[Chart]:
    """Return the charts of (name, title, reading, figure); a figure that is None is left out."""
    return [
        Chart(name=name, title=title, reading=reading, svg=svg_of(figure))
        for name, title, reading, figure in drawn
        if figure is not None
    ]


def write_pages(folder: Path, template: str, view: Mapping[str, Any]) -> None:
    """Write plots/*.svg, report.md and report.html of a view (its `charts` among it)."""
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    charts = {f"plots/{chart.name}.svg": str(chart.svg) for chart in view["charts"]}
    (folder / SUMS).unlink(missing_ok=True)  # of the report before
    for name, text in charts.items():
        write_text(folder / name, text)
    reach("report.plots")
    pages = {f"report.{s}": _render(f"{template}.{s}.j2", view) for s in ("md", "html")}
    for name, text in pages.items():
        write_text(folder / name, text)
    texts = charts | pages
    write_text(folder / SUMS, "".join(f"{_digest(t)}  {n}\n" for n, t in texts.items()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _render(template: str, view: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    house = Environment(
        loader=PackageLoader("raysubset.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Each escapes what it is given (matplotlib the text of its SVG), so nothing is escaped twice.
    escaping: dict[str, Callable[[Any], str]] = {
        "md": lambda text: markdown(str(text)),
        "md_ticked": lambda text: _TICKED.sub(r"`\1`", markdown(str(text))),
        "md_table": markdown_table,
        "ticked": lambda text: _TICKS.sub(r"<code>\1</code>", str(escape(text))),
        "svg": lambda chart: chart.inline,
    }
    house.filters |= {name: _marked(function) for name, function in escaping.items()}
    style = {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    return house.get_template(template).render(
        **view, **{name: Markup(value) for name, value in style.items()}
    )


def _marked(function: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a filter whose result the template takes as it is."""
    from markupsafe import Markup

    return lambda value: Markup(function(value))
