from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rl_tuner.analysis import analyse
from rl_tuner.comparison import Comparison
from rl_tuner.report_figures import PLOTS
from rl_tuner.report_page import write_report
from rl_tuner.report_text import fixed, interval
from tests.comparing import failed, make_comparison, small
from tests.reporting import CONTROLS, PROVENANCE, full, method, renamed

HOSTILE = "<script>alert(1)</script>&\"'{{ 7*7 }}"


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, tables by their label, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._label = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "div" and found.get("role") == "region":
            self._label = found["aria-label"] or ""
        elif tag == "table":
            self._rows = self.tables[self._label] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] = " ".join([*self._rows[-1][-1].split(), *data.split()])

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = []


def write(comparison: Comparison, provenance: dict[str, Any], folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return write_report(comparison, analyse(comparison), provenance, folder)[0].read_text()


@pytest.fixture(scope="module")
def text(full_report: list[Path]) -> str:
    return full_report[0].read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_and_a_png_file_of_every_figure_are_written(full_report: list[Path]) -> None:
    assert [path.name for path in full_report] == ["report.html", *(f"{plot.name}.png" for plot in PLOTS)]
    for path in full_report[1:]:
        with Image.open(path) as image:
            assert image.width > 400


def test_the_page_asks_for_nothing_and_runs_nothing(page: Page, text: str) -> None:
    policy = dict(page.tags[[tag for tag, _ in page.tags].index("meta") + 1][1])
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "img", "object", "form", "base"}
    links = [
        value for _, attributes in page.tags for key, value in attributes.items() if key in ("href", "src")
    ]
    assert links
    assert all(link and link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?:|@import|@font-face|javascript:", text)


def test_no_attribute_acts_on_an_event(page: Page) -> None:
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]


def test_every_figure_is_drawn_in_the_page(page: Page) -> None:
    figures = {attributes.get("id") for tag, attributes in page.tags if tag == "figure"}
    assert figures == {f"figure-{plot.name}" for plot in PLOTS}
    assert sum(tag == "svg" for tag, _ in page.tags) == len(PLOTS)


def test_identifiers_are_unique_and_every_link_inside_the_page_leads_somewhere(page: Page, text: str) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_the_main_table_holds_the_numbers_of_the_analysis_best_score_first(page: Page) -> None:
    _, analysis = full()
    head, *rows = page.tables["Methods"]
    names = [row[0].split()[0] for row in rows]
    means = [method(analysis, name).iqm.mean for name in names]
    assert means == sorted(means, reverse=True)
    assert len(names) == 15
    columns = {name.split()[0]: i for i, name in enumerate(head)}
    for name, row in zip(names, rows, strict=True):
        assert row[columns["IQM"]] == " ".join(interval(method(analysis, name).iqm))
        assert row[columns["budgets"]] == ("8" if "@8" in name else "1")


def test_samples_are_counted_over_all_runs_of_a_method(page: Page) -> None:
    comparison, _ = full()
    head, *rows = page.tables["Methods"]
    for row in rows:
        own = comparison.of(row[0].split()[0])
        assert row[head.index("samples training, all runs")] == fixed(sum(r.samples for r in own), 0)
        assert row[-1] == fixed(sum(r.val_samples for r in own), 0)


def test_better_stands_in_the_table_only_where_the_ratios_interval_excludes_one(page: Page) -> None:
    comparison, _ = full()
    ratios = {summary.method: summary.log_ratio for summary in comparison.summaries}
    seen = set()
    for row in page.tables["Methods"][1:]:
        ratio = ratios[row[0].split()[0]]
        word = "better" if ratio.high < 0 else "worse" if ratio.low > 0 else ""
        assert ("better" in " ".join(row)) == (word == "better")
        assert ("worse" in " ".join(row)) == (word == "worse")
        seen.add(word)
    assert "better" in seen


def test_probabilities_of_both_directions_add_up_to_one(page: Page) -> None:
    head, *rows = page.tables["Probability of improvement"]
    assert head[1:] == [row[0] for row in rows]
    for i, row in enumerate(rows):
        assert row[i + 1] == ""
        for j in range(i):
            first, second = (
                int(cell.partition("%")[0].partition(".")[0]) for cell in (row[j + 1], rows[j][i + 1])
            )
            assert abs(first + second - 100) <= 1


def test_controls_are_called_out(page: Page) -> None:
    _, analysis = full()
    rows = page.tables["Controls"][1:]
    assert [(row[0], row[1]) for row in rows] == [("default", name) for name in CONTROLS]
    assert [row[-1] for row in rows] == [method(analysis, "default").verdicts[name] for name in CONTROLS]


def test_each_kind_of_job_has_its_columns(page: Page) -> None:
    _, analysis = full()
    kinds, heads, *rows = page.tables["By what is new"]
    assert kinds == ["method", "dataset 2 jobs", "optimizer 2 jobs"]
    assert heads == ["IQM", "k*", "crashes"] * 2
    assert len(rows) == len(analysis.methods)
    for row in rows:
        for i, kind in enumerate(analysis.kinds):
            figures = next(m for m in kind.methods if m.method == row[0])
            assert row[3 * i + 1] == " ".join(interval(figures.iqm))
            assert figures.equivalents is not None
            assert row[3 * i + 2].split()[0] in (fixed(figures.equivalents.of_mean.mean, 1), ">")
            assert row[3 * i + 3].startswith(fixed(100 * figures.crash_rate.mean, 0) + "%")


def test_the_job_table_marks_the_highest_score(page: Page, text: str) -> None:
    comparison, _ = full()
    head, *rows = page.tables["Scores by job"]
    assert [row[0] for row in rows] == [f"{job}: toy-{job}-mlp" for job in range(3)]
    assert len(head) == 3 + len(comparison.methods)
    assert text.count('<td class="best">') >= 3


def test_where_it_comes_from_stands_in_the_page(page: Page) -> None:
    said = " ".join(" ".join(page.text).split())
    for word in (
        "rl-tuner compare constant cosine",
        "torch 2.13",
        "suite quick",
        "date 2026-01-01",
        "rows.csv",
    ):
        assert word in said
    assert "lr_factor 0.5" in said


def test_nothing_that_a_user_named_becomes_markup() -> None:
    comparison = renamed(small(), {"x": HOSTILE})
    provenance = {
        "command": HOSTILE,
        "settings": {HOSTILE: HOSTILE},
        "files": [HOSTILE.replace("/", "")],
        "a": HOSTILE,
    }
    page = Page(write(comparison, provenance, Path("out")))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "".join(page.text).count(HOSTILE) > 5


@pytest.mark.parametrize(
    "comparison",
    [small(), failed(), make_comparison(constant=[[0.0]]), make_comparison(x=[[1.0]], y=[[2.0]])],
)
def test_every_comparison_has_a_page_even_with_nothing_known_of_where_it_comes_from(
    comparison: Comparison,
) -> None:
    text = write(comparison, {}, Path("out"))
    page = Page(text)
    assert len(page.tables["Methods"]) == 1 + len(comparison.methods)
    assert "Controls" not in page.tables
    assert "By what is new" not in page.tables
    assert 'id="static"' not in text
    assert not re.search(r"\b(nan|inf|None)\b", "".join(page.text))


def test_the_same_comparison_gives_the_same_page() -> None:
    assert write(small(), PROVENANCE, Path("one")) == write(small(), PROVENANCE, Path("two"))


def test_a_name_is_set_off_in_the_sentences_but_not_within_a_longer_one(text: str) -> None:
    lead = re.search(r'<p class="lead">(.*?)</p>', text)
    assert lead is not None
    assert '<span class="name">default</span>' in lead[1]
    assert '<span class="name">default-untrained</span>' in text
    assert '<span class="name">default</span>-' not in text
