"""Draws the pictures of docs/how_it_works.md; what looks measured in them is computed here.

    python docs/figures/draw.py            # write the SVG files beside this script

Small made-up problems, the package's own functions, one seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # this checkout's package, wherever it is called from

import raysubset as rs  # noqa: E402
from raysubset.core.lookahead import STEP_GRID  # noqa: E402
from raysubset.report.palette import LIGHT  # noqa: E402
from raysubset.report.svg import drawing, grid, new_figure, svg_of  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY = LIGHT["blue"], LIGHT["vermillion"], LIGHT["grey"]
INK, LINE, ORANGE = LIGHT["ink"], LIGHT["line"], LIGHT["orange"]


def main(folder: Path) -> None:
    """Write every picture into the folder."""
    with drawing():
        for name, draw in PICTURES.items():
            (folder / f"{name}.svg").write_text(svg_of(draw()), encoding="utf-8")


class Toy:
    """A problem in the plane: two classes, a head that is turned the wrong way, 8 picks."""

    def __init__(self) -> None:
        draw = np.random.default_rng(7)
        middle = np.array([[-1.2, -0.5], [1.2, 0.5]])
        self.label_N, self.label_V = np.arange(90) % 2, np.arange(30) % 2
        self.pool = (middle[self.label_N] + draw.normal(0, 0.8, (90, 2))).astype(np.float32)
        self.valid = (middle[self.label_V] + draw.normal(0, 0.8, (30, 2))).astype(np.float32)
        self.weight = np.array([[0.3, -0.9], [-0.3, 0.9]], dtype=np.float32)
        self.bias = np.zeros(2, dtype=np.float32)
        head = (self.weight, self.bias)
        self.factors = rs.GradientFactors.from_embeddings(self.pool, self.label_N, *head)
        self.look = rs.Lookahead.from_embeddings(self.valid, self.label_V, *head)
        ground = rs.LocalGroundSet(self.factors)
        self.chosen = rs.Glister(step_size=2.0).select(ground, self.look, budget=8)

    def moved_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the head after the imagined step along the picks' mean gradient."""
        picks = self.factors.take(torch.from_numpy(self.chosen.ids))
        step = 2.0 * picks.gradient_sum().numpy() / len(self.chosen)
        return self.weight - step[:, :-1], self.bias - step[:, -1]


def factors() -> Figure:
    """A gradient as an outer product, and what the two ways to keep it take."""
    figure = new_figure(7.4, 2.7)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _outer_product(left)
    names = ("CIFAR-10, ResNet-18", "ImageNet-1k, ResNet-50")
    expanded, kept = (1.03e9, 10.5e12), (0.10e9, 15.6e9)
    for row, (name, many, few) in enumerate(zip(names, expanded, kept, strict=True)):
        y = 2.6 * row
        right.barh([y, y + 0.8], [many, few], height=0.7, color=[LINE, BLUE])
        right.text(1.5e7, y - 0.5, name, va="bottom", fontsize=9, fontweight="bold")
        for at, size, what in ((y, many, "expanded"), (y + 0.8, few, "as factors")):
            right.text(1.3 * size, at, f"{what}, {_size(size)}", va="center", fontsize=8.5)
    right.set(xscale="log", xlim=(1e7, 3e16), ylim=(4.1, -0.9), yticks=[])
    right.set_xticks([1e9, 1e12], ["1 GB", "1 TB"])
    right.minorticks_off()
    right.set_title("what all gradients take (fp32)")
    return figure


def _outer_product(axes: Axes) -> None:
    draw = np.random.default_rng(3)
    r, a = draw.normal(size=6), draw.normal(size=12)
    for values, x, y in ((r[:, None], 0.0, 0.0), (a[None], 2.2, -2.2), (np.outer(r, a), 2.2, 0.0)):
        high, wide = values.shape
        faded = 0.28 if high > 1 and wide > 1 else 1.0
        axes.imshow(
            np.tanh(values), cmap="RdBu", vmin=-1.6, vmax=1.6, alpha=faded, aspect="equal",
            extent=(x, x + wide, y + high, y),
        )  # fmt: skip
        axes.add_patch(_box(x, y, wide, high))
    axes.text(0.5, 6.4, "r = p - y\nC numbers", ha="center", va="top", fontsize=9)
    axes.text(8.2, -2.5, "a = [h; 1], H + 1 numbers", ha="center", va="bottom", fontsize=9)
    axes.text(8.2, 3, "g = r (outer) a\nC x (H + 1), never formed", ha="center", va="center")
    axes.set(xlim=(-1.6, 14.6), ylim=(8.2, -3.6))
    axes.axis("off")
    axes.set_title("one example's gradient of the head")


def lookahead() -> Figure:
    """The plane before and after the imagined step."""
    toy = Toy()
    figure = new_figure(7.4, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    heads = ((toy.weight, toy.bias), toy.moved_head())
    losses = [toy.chosen.facts[f"modelled_loss_{when}"] for when in ("before", "after")]
    titles = ("the head as it is", "after the imagined step on 8 picks")
    for axes, (weight, bias), loss, title in zip(panels, heads, losses, titles, strict=True):
        for label, colour, marker in ((0, BLUE, "o"), (1, RED, "s")):
            pool, valid = toy.pool[toy.label_N == label], toy.valid[toy.label_V == label]
            axes.scatter(*pool.T, s=16, color=colour, marker=marker, alpha=0.35, linewidths=0)
            axes.scatter(*valid.T, s=30, facecolors="none", edgecolors=colour, marker=marker)
        _boundary(axes, weight[1] - weight[0], float(bias[1] - bias[0]))
        axes.set(xlim=(-3.4, 3.4), ylim=(-3, 3), xticks=[], yticks=[])
        axes.set_title(f"{title}\nvalidation loss {loss:.2f}")
    picked = toy.pool[toy.chosen.ids]
    panels[1].scatter(*picked.T, s=90, facecolors="none", edgecolors=INK, linewidths=1.6)
    figure.supxlabel(
        "small: pool · hollow: validation · ringed: picks · line: where both classes are as likely",
        fontsize=9,
    )
    return figure


def _boundary(axes: Axes, normal: np.ndarray, offset: float) -> None:
    along = np.array([-normal[1], normal[0]]) / np.linalg.norm(normal)
    foot = -offset * normal / (normal @ normal)
    ends = np.stack([foot - 6 * along, foot + 6 * along])
    axes.plot(*ends.T, color=INK, linewidth=1.4)


def step_size() -> Figure:
    """Validation loss along the pool's mean gradient, on the grid that auto looks at."""
    toy = Toy()
    mean = toy.factors.gradient_sum() / toy.factors.num_examples
    losses = [toy.look.loss(toy.look.moved_logits(mean, step)) for step in STEP_GRID]
    best = toy.look.best_step(mean)
    figure = new_figure(5.6, 2.8)
    axes = figure.subplots()
    axes.plot(STEP_GRID, losses, "o-", color=BLUE, markersize=4)
    axes.axhline(toy.look.loss(toy.look.logits_VC), color=GREY, linewidth=1, linestyle=":")
    axes.plot([best], [min(losses)], "o", color=RED, markersize=9)
    axes.annotate(
        f"auto: {best:g}", (best, min(losses)), xytext=(0, -16), textcoords="offset points",
        ha="center", color=RED,
    )  # fmt: skip
    axes.text(STEP_GRID[0], toy.look.loss(toy.look.logits_VC), "no step", va="bottom", fontsize=9)
    axes.set(xscale="log", xlabel="step_size along the pool's mean gradient, log scale")
    axes.set_xticks([0.001, 0.01, 0.1, 1, 10, 100], ["0.001", "0.01", "0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set(ylabel="validation loss, nats", ylim=(0, 1.6))
    axes.set_title("the step that auto takes")
    grid(axes)
    return figure


def screening() -> Figure:
    """One pick: certified upper bounds for all rows, exact gains for those that could win."""
    toy = Toy()
    look, first = toy.look, toy.look.direction(toy.look.logits_VC)
    one_pick = _sum_of(toy.factors, toy.chosen.ids[:1])
    moved = look.direction(look.moved_logits(one_pick, 2 / 60))
    stale_N, fresh_N = (_gains(toy.factors, each) for each in (first, moved))
    bound_N = stale_N + toy.factors.norm_N * (moved - first).norm()
    order = torch.argsort(bound_N, descending=True)[:40]
    best = fresh_N.max()
    reach = int((bound_N[order] >= best).sum())
    figure = new_figure(7.4, 3.0)
    axes = figure.subplots()
    place = np.arange(len(order))
    colours = [RED if i < reach else LINE for i in place]
    axes.vlines(place, -0.6, bound_N[order], color=colours, linewidth=5)
    axes.plot(place[:reach], fresh_N[order][:reach], "o", color=INK, markersize=5)
    axes.axhline(float(best), color=INK, linewidth=1)
    axes.text(39.5, float(best), "best exact gain", ha="right", va="bottom")
    axes.text(
        39.5,
        0.9 * float(best),
        "grey: no bound reaches it, no gain is computed",
        ha="right",
        va="top",
    )
    axes.set(xlabel="rows, by upper bound of their gain (the first 40 of 90)", ylabel="gain")
    axes.set(xlim=(-1, 40), ylim=(0, float(bound_N.max()) * 1.15), xticks=[])
    axes.set_title(f"{reach} exact gains decide this pick (dots); bars are certified bounds")
    return figure


def _gains(factors: rs.GradientFactors, direction: torch.Tensor) -> torch.Tensor:
    moved = factors.embedding_NH @ direction[:, :-1].T + direction[:, -1]
    return (factors.residual_NC * moved).sum(1)


def _sum_of(factors: rs.GradientFactors, ids: np.ndarray) -> torch.Tensor:
    return factors.take(torch.from_numpy(ids)).gradient_sum()


def shards() -> Figure:
    """The top of a union is the merge of the tops."""
    draw = np.random.default_rng(11)
    gain = draw.uniform(0, 1, (3, 8)).round(2)
    top = np.sort(gain.reshape(-1))[-3:]
    figure = new_figure(7.4, 2.9)
    axes = figure.subplots()
    for shard in range(3):
        y = 2.2 * shard
        axes.text(-0.3, y + 0.5, f"shard {shard + 1}", ha="right", va="center")
        mine = np.sort(gain[shard])[-3:]
        for place, value in enumerate(gain[shard]):
            colour = BLUE if value in mine else "none"
            axes.add_patch(_box(place, y, 1, 1, face=colour, alpha=0.35))
            axes.text(place + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8)
        for place, value in enumerate(mine[::-1]):
            axes.add_patch(_box(10 + place, y, 1, 1, face=BLUE, alpha=0.35))
            axes.text(10.5 + place, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8)
        _arrow(axes, (8.15, y + 0.5), (9.85, y + 0.5))
        _arrow(axes, (13.15, y + 0.5), (14.85, 2.7 + 0.35 * (shard - 1)))
    for place, value in enumerate(top[::-1]):
        axes.add_patch(_box(15 + place, 2.2, 1, 1, face=RED, alpha=0.45))
        axes.text(15.5 + place, 2.7, f"{value:.2f}", ha="center", va="center", fontsize=8)
    for x, told in ((4, "gains of its rows"), (11.5, "its three best"), (16.5, "the three best")):
        axes.text(x, -0.5, told, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-2.4, 18.4), ylim=(6, -1.6))
    axes.axis("off")
    return figure


def rounds() -> Figure:
    """What a run does, round after round."""
    figure = new_figure(7.4, 2.5)
    axes = figure.subplots()
    x = 0.0
    for number in range(3):
        if number:
            _selecting(axes, x)
            x += 0.75
        _training(axes, x, number)
        x += 4
    told = "orange: score the pool (a forward pass) · red: greedy · select_every = 10"
    axes.text(0, 2.65, told, fontsize=9)
    axes.set(xlim=(-0.1, x + 0.1), ylim=(2.8, -0.7))
    axes.axis("off")
    return figure


def _selecting(axes: Axes, x: float) -> None:
    axes.add_patch(_box(x, 0, 0.5, 1, face=ORANGE, alpha=0.8))
    axes.add_patch(_box(x + 0.5, 0, 0.25, 1, face=RED, alpha=0.8))
    axes.text(x + 0.37, -0.15, "select", ha="center", va="bottom", fontsize=9)


def _training(axes: Axes, x: float, number: int) -> None:
    axes.add_patch(_box(x, 0, 4, 1, face=BLUE, alpha=0.45))
    told = "the ids of this round" if number else "random subset"
    told = f"train, epochs {10 * number}-{10 * number + 9}\n{told}"
    axes.text(x + 2, 0.5, told, ha="center", va="center", fontsize=9)
    axes.annotate(
        f"round {number} is done:\nits manifest is written",
        (x + 4, 1.02),
        xytext=(x + 4, 1.75),
        ha="right" if number == 2 else "center",
        va="top",
        fontsize=8.5,
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.8},
    )


def _box(x: float, y: float, wide: float, high: float, face: str = "none", alpha: float = 1):
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    filled = "none" if face == "none" else to_rgba(face, alpha)
    return Rectangle((x, y), wide, high, facecolor=filled, edgecolor=LIGHT["muted"], linewidth=0.8)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": LIGHT["muted"], "linewidth": 1.2}
    axes.annotate("", end, xytext=start, arrowprops=style)


def _size(size: float) -> str:
    unit, name = (1e12, "TB") if size >= 1e12 else (1e9, "GB")
    return f"{size / unit:.3g} {name}"


PICTURES: dict[str, Callable[[], Figure]] = {
    "factors": factors,
    "lookahead": lookahead,
    "step_size": step_size,
    "screening": screening,
    "shards": shards,
    "rounds": rounds,
}

if __name__ == "__main__":
    main(Path(__file__).parent)
