"""The chart of a learning curve: error against labels, the power law, and its test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raysubset.frontier.learning import LearningCurve
from raysubset.report.palette import LIGHT
from raysubset.report.svg import grid, new_figure
from raysubset.report.wording import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AHEAD = 4.0
"""How far the curve is drawn beyond the largest size, as a multiple of it."""


def curve_chart(curve: LearningCurve | None) -> Figure | None:
    """Test error of random subsets and full, the law through them, and the one before the last."""
    if curve is None:
        return None
    figure = new_figure(height=3.8)
    axes = figure.add_subplot()
    sizes, largest = np.array(curve.sizes, dtype=np.float64), float(curve.sizes[-1])
    means = [100 * e.mean for e in curve.errors]
    halves = [100 * e.half for e in curve.errors]
    axes.errorbar(
        sizes, means, halves, fmt="o", color=LIGHT["ink"], capsize=3, label="measured, 95 %"
    )
    seen = np.geomspace(sizes[0], largest, 80)
    ahead = np.geomspace(largest, AHEAD * largest, 40)
    fitted = [100 * curve.law.error(n) for n in seen]
    axes.plot(seen, fitted, color=LIGHT["blue"], linewidth=1.8, label="power law through all sizes")
    foretold = [100 * curve.law.error(n) for n in ahead]
    axes.plot(ahead, foretold, color=LIGHT["blue"], linestyle="--", label="beyond what was run")
    if curve.before is not None:
        without = [100 * curve.before.error(n) for n in seen]
        label = "fitted without the largest size"
        axes.plot(seen, without, color=LIGHT["vermillion"], linestyle=":", label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [count(n) for n in curve.sizes])
    axes.minorticks_off()
    axes.set(xlabel="labels kept at random (log scale)", ylabel="test error in %")
    axes.set_ylim(bottom=0)
    grid(axes)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
    return figure
