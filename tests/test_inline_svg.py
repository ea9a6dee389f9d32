from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from rl_tuner.inline_svg import INK, PAPER, inline_svg, shorten, themed


def drawn(name: str = "one", title: str = "a title") -> str:
    with themed(name):
        figure = Figure(figsize=(3, 2), layout="constrained")
        axes = figure.subplots()
        axes.plot([1, 2, 3], [1, 4, 2], "D-", markeredgecolor="black")
        axes.fill_between([1, 2, 3], [0, 1, 0], color="#1f77b4", alpha=0.3)
        axes.set_title(title, parse_math=False)
        axes.grid()
        return inline_svg(figure, name, "a <label>")


def elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter())


def test_text_stays_text_whatever_it_holds() -> None:
    svg = drawn(title='<b>&"$x$"')
    assert '<b>&"$x$"' in [element.text for element in elements(svg)]
    assert "<b>" not in svg


def test_it_holds_nothing_that_reaches_out_of_its_element() -> None:
    svg = drawn()
    assert {element.tag for element in elements(svg)} <= {
        "svg",
        "g",
        "defs",
        "path",
        "use",
        "text",
        "clipPath",
        "rect",
    }
    assert not re.search(r"https?:|xmlns|<\?|<!|font-family|20\d\d-", svg)


def test_every_reference_leads_to_an_element_of_the_same_figure_and_to_one_only() -> None:
    one, two = drawn("one"), drawn("two")
    ids = [element.get("id") for element in elements(one) if element.get("id")]
    assert len(ids) == len(set(ids)) > 2
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', one)) == set(ids)
    assert not set(ids) & {element.get("id") for element in elements(two)}


def test_the_same_figure_gives_the_same_text() -> None:
    assert drawn() == drawn()


def test_ink_and_paper_follow_the_page_and_other_colours_stay() -> None:
    svg = drawn()
    assert "var(--ink)" in svg
    assert "var(--paper)" in svg
    assert "#1f77b4" in svg
    assert not re.search(f"{INK}|{PAPER}|#000000|#ffffff", svg)


def test_it_scales_and_has_a_name_for_those_who_hear_it() -> None:
    root = elements(drawn())[0]
    assert root.get("role") == "img"
    assert root.get("aria-label") == "a <label>"
    assert root.get("viewBox") == "0 0 216 144"
    assert root.get("height") is None


def test_the_settings_of_matplotlib_are_as_before() -> None:
    before = dict(mpl.rcParams)
    drawn()
    assert dict(mpl.rcParams) == before


def test_a_staircase_keeps_its_corners_only() -> None:
    path = "M 0 0 \nL 1 0 \nL 2 0 \nL 2 1 \nL 2 3 \nL 5 3 \n"
    assert shorten(path) == "M0 0L2 0L2 3L5 3"


def test_a_closed_chain_stays_closed_and_curves_stay_as_they_are() -> None:
    assert shorten("M 0 0 \nL 1 1 \nL 2 0 \nz\n") == "M0 0L1 1L2 0z"
    curve = "M 0 0 C 1 2 3 4 5 6 z"
    assert shorten(curve) == curve


points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=20)


@given(points)
def test_a_shortened_chain_passes_through_every_point_in_order(chain: list[tuple[int, int]]) -> None:
    text = "M " + "L ".join(f"{x} {y} \n" for x, y in chain)
    short = [tuple(map(float, point.split())) for point in shorten(text).removeprefix("M").split("L")]
    assert short[0] == chain[0]
    assert short[-1] == chain[-1]
    assert length(short) == pytest.approx(length(chain))
    remaining = iter(chain)
    assert all(point in remaining for point in short)


def length(chain: list[tuple[float, ...]] | list[tuple[int, int]]) -> float:
    return float(np.linalg.norm(np.diff(np.array(chain, dtype=float), axis=0), axis=1).sum())
