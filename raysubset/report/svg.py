"""SVG: figures by matplotlib's object interface, as files and as parts of a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raysubset.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_HEAD = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", re.DOTALL)
_SIZE = re.compile(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>')
_COLOUR = re.compile(r'(?<=: )(#[0-9a-f]{6})(?=["; ])')
_FONT = re.compile(r"font-family: '[^\"]*?sans-serif")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, and set in the page's own font
    "svg.hashsalt": "raysubset",  # equal figures give equal files
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$5"
    "hatch.linewidth": 0.8,
    **{name: LIGHT["ink"] for name in ("text.color", "axes.titlecolor", "axes.labelcolor")},
    **{name: LIGHT["muted"] for name in ("xtick.color", "ytick.color")},
    "axes.edgecolor": LIGHT["muted"],
    "grid.color": LIGHT["line"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextmanager
def drawing() -> Generator[None]:
    """Draw in the house style, and leave matplotlib's settings as they were."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A class name in a script that matplotlib's own font lacks; the page's font has it.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def new_figure(width: float = 7.4, height: float = 3.0) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG file on white."""
    buffer = io.StringIO()
    figure.savefig(
        buffer,
        format="svg",
        facecolor=LIGHT["paper"],
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    return _FONT.sub(f"font-family: {FONTS}", buffer.getvalue())


def inlined(svg: str, name: str, label: str) -> str:
    """Return the SVG for the inside of a page: scalable, themed, its ids its own."""
    import html

    body = _HEAD.sub("", svg)
    box = _SIZE.search(body)
    assert box is not None, "matplotlib writes a viewBox"
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}">'
    body = body[: box.start()] + opening + body[box.end() :]
    body = re.sub(r'(?<= )id="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    names = {value: key for key, value in LIGHT.items()}
    return _COLOUR.sub(lambda m: _variable(names, m[1]), body).strip()


def grid(axes: Axes, axis: str = "y") -> None:
    """Lay a quiet grid behind the data."""
    axes.grid(visible=True, axis=axis, linewidth=0.7)  # pyright: ignore[reportArgumentType]
    axes.tick_params(which="both", length=0)


def _variable(names: dict[str, str], colour: str) -> str:
    return f"var(--{names[colour]})" if colour in names else colour
