"""Figures as SVG inside an HTML page: text stays text, colours follow the page's light or dark theme.

A figure is drawn once. Ink, muted ink, grid and background have tones of their own (`TONES`), which the
inline SVG replaces by CSS variables of the page; a PNG file of the same figure keeps them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b636d", "#c9ced5", "#fffffe"
TONES = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    MUTED: "var(--muted)",
    "#595959": "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    "#ffffff": "var(--paper)",
}
"""What stands for each tone in the page."""
POINT = 4 / 3
"""CSS pixels of a point."""
_STYLE = {
    "svg.fonttype": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": "auto",
}
_LINES = re.compile(r"M (?P<points>\S+ \S+(?:\s+L \S+ \S+)+)(?P<close>\s+z)?\s*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@contextmanager
def themed(name: str) -> Iterator[None]:
    """Inside of it, figures are made and drawn in the tones that `inline_svg` replaces.

    Args:
        name: The figure's; two drawings of it have the same identifiers, those of others have none of them.
    """
    from matplotlib import rc_context

    style: Any = {**_STYLE, "svg.hashsalt": name}
    with rc_context(style):
        yield


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element to stand in an HTML page; call it inside of `themed`.

    It holds no style sheet, no font, no link and no date: the same figure gives the same text.

    Args:
        figure: What to draw.
        name: A word that no other figure of the page has; its identifiers begin with it.
        label: What a screen reader says.
    """
    content = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=nothing)
    root = ElementTree.fromstring(content.getvalue())
    _localize(root, name)
    width = float(root.attrib.pop("width").removesuffix("pt")) * POINT
    for attribute in ("height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": label, "style": f"width: {width:.0f}px"}
    return ElementTree.tostring(root, encoding="unicode")


def _localize(root: ElementTree.Element, name: str) -> None:
    """Makes the drawing's elements part of a page: plain names, identifiers of its own, themed colours."""
    used = {key for element in root.iter() for key in _references(element)}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None if element.tag != "tspan" else element.tail
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            plain = key.rpartition("}")[2]  # browsers know href without its old namespace
            if plain == "id":
                if value in used:
                    element.set("id", f"{name}-{value}")
            elif plain == "href":
                element.set("href", f"#{name}-{value.removeprefix('#')}")
            elif plain == "d":
                element.set("d", shorten(value))
            else:
                element.set(plain, _themed_value(value, name) if plain in ("style", "clip-path") else value)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("style", "metadata"):  # they would hold for the whole page
                parent.remove(child)


def _references(element: ElementTree.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key.endswith("href"):
            yield value.removeprefix("#")
        yield from _REFERENCE.findall(value)


def _themed_value(value: str, name: str) -> str:
    value = re.sub(r" ?font-family: [^;]+;?", "", value)  # the page's own
    value = re.sub(r"#[0-9a-f]{6}\b", lambda found: TONES.get(found[0], found[0]), value)
    return _REFERENCE.sub(rf"url(#{name}-\1)", value)


def shorten(path: str) -> str:
    """A path whose polygonal chains lack what lies amid a horizontal or vertical stretch; to 0.01 points.

    Staircases and their bands have hundreds of such points: a page with many would be several times as large.

    Args:
        path: An SVG path's data, as matplotlib writes it.
    """
    return _LINES.sub(_shorter, path)


def _shorter(lines: re.Match[str]) -> str:
    kept: list[tuple[float, ...]] = []
    for point in lines["points"].split("L"):
        new = tuple(round(float(part), 2) for part in point.split())
        while len(kept) > 1 and _between(kept[-2], kept[-1], new):
            kept.pop()
        kept.append(new)
    drawn = "L".join(f"{x:g} {y:g}" for x, y in kept)
    return f"M{drawn}{'z' if lines['close'] else ''}"


def _between(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> bool:
    """Whether b lies on the straight way from a to c, along one axis."""
    return any(a[i] == b[i] == c[i] and (b[1 - i] - a[1 - i]) * (c[1 - i] - b[1 - i]) >= 0 for i in (0, 1))
