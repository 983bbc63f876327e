"""Colours, each with a twin for dark pages; hues after Okabe and Ito, told apart by all eyes.

Charts are drawn in the light colours. In a page, each becomes a CSS variable of its name, so that
light, dark and print are a matter of style; a file of its own keeps the light ones on white.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1c2128",
    "muted": "#59636e",
    "line": "#d5dae0",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#00805d",
    "orange": "#e69f00",
    "purple": "#b0568b",
    "grey": "#8a929b",
}
DARK = {
    "paper": "#14171b",
    "ink": "#e6e9ed",
    "muted": "#a3acb6",
    "line": "#363c44",
    "blue": "#5cb3e8",
    "vermillion": "#f08a4b",
    "green": "#35bf93",
    "orange": "#f2bd4b",
    "purple": "#dc92bd",
    "grey": "#8a929b",
}
STAGE = {"training": "blue", "scoring": "orange", "greedy": "vermillion", "other": "grey"}
"""Colour of each stage of a round, in the order in which they are stacked."""
STRATEGY = {
    "glister": ("blue", "o", "-"),
    "adaptive-random": ("vermillion", "s", "-"),
    "adaptive-random-plain": ("grey", "p", ":"),
    "adaptive-random-equal-time": ("ink", "*", "--"),
    "random": ("orange", "^", "--"),
    "random-plain": ("vermillion", "d", "--"),
    "random-validation": ("blue", "h", "-."),
    "full-compressed": ("green", "D", "-."),
    "full-validation-compressed": ("green", "P", ":"),
    "validation-only": ("purple", "X", "-."),
    "full": ("purple", "v", ":"),
}
"""Colour, marker and line of each strategy: three signs, so that colour is never the only one."""


def css_variables(colours: dict[str, str]) -> str:
    """Return "--ink: #1c2128; ..." for a style sheet."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
