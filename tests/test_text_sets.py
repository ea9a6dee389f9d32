"""Text sets: real text is what CPython ships, artificial text keeps its rules, and both can be learned."""

from __future__ import annotations

import inspect
import operator
import re
import sys
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_tuner import DatasetError
from rl_tuner.envs import text_sets
from rl_tuner.envs.samples import Samples
from rl_tuner.envs.text_sets import (
    ALPHABET,
    BRACKETS,
    DEEPEST,
    LENGTH,
    MODULES,
    SYMBOLS,
    TEXT_SETS,
    WINDOWS,
    cut,
    decode,
    encode,
)
from tests.data_sets import Source, draw, require_drawn_by_the_generator_alone

SETS = pytest.mark.parametrize("source", TEXT_SETS.values(), ids=TEXT_SETS)


def windows(text: Samples) -> np.ndarray:
    """Whole windows again, (n, LENGTH + 1)."""
    return np.concatenate([text.inputs, text.targets[:, -1:]], axis=1)


def strings(text: Samples) -> list[str]:
    return [decode(window) for window in windows(text)]


@SETS
def test_every_set_has_one_shape_and_one_alphabet_and_predicts_the_next_character(source: Source) -> None:
    text = draw(source)
    assert text.kind == "tokens"
    assert text.classes == SYMBOLS
    assert text.vocabulary == (len(SYMBOLS),)
    assert text.inputs.shape == text.targets.shape == (WINDOWS, LENGTH)
    assert text.inputs.dtype == text.targets.dtype == np.int64
    np.testing.assert_array_equal(text.inputs[:, 1:], text.targets[:, :-1])
    assert text.shape.every_position
    assert windows(text).min() >= 0
    assert windows(text).max() < len(SYMBOLS)
    assert (windows(text) == len(ALPHABET)).mean() < 0.01  # the symbol for all that is not in the alphabet


@SETS
@pytest.mark.usefixtures("untouched_rng")
def test_a_set_depends_on_its_generator_alone(source: Source) -> None:
    require_drawn_by_the_generator_alone(source)


def test_the_alphabet_has_at_most_64_symbols_each_once() -> None:
    assert len(SYMBOLS) <= 64
    assert len(set(SYMBOLS)) == len(SYMBOLS)


@given(st.text(alphabet=ALPHABET))
def test_text_of_the_alphabet_survives_encoding(text: str) -> None:
    assert decode(encode(text)) == text


@given(st.text())
def test_any_text_has_a_symbol_for_every_character_of_its_lower_case(text: str) -> None:
    tokens = encode(text)
    assert len(tokens) == len(text.lower())
    assert ((tokens >= 0) & (tokens < len(SYMBOLS))).all()


def test_capitals_and_typography_are_read_as_plain_signs_and_the_rest_as_other() -> None:
    typographic = "“It\N{RIGHT SINGLE QUOTATION MARK}s” \N{EN DASH} A\tB—C"
    assert decode(encode(typographic)) == '"it\'s" - a b-c'
    assert encode("aé$漢\x7f").tolist() == [encode("a")[0], *[len(SYMBOLS) - 1] * 4]


@given(st.integers(0, 200))
def test_windows_do_not_overlap_and_only_the_rest_is_left_out(length: int) -> None:
    tokens = np.arange(length)
    whole = cut(tokens)
    assert whole.shape == (length // (LENGTH + 1), LENGTH + 1)
    np.testing.assert_array_equal(whole.ravel(), tokens[: whole.size])


def test_the_two_halves_of_the_topics_have_no_window_and_hardly_a_phrase_in_common() -> None:
    halves = [
        [text for seed in range(6) for text in strings(draw(TEXT_SETS[name], seed))]
        for name in ("topics-a", "topics-b")
    ]
    first, second = map(set, halves)
    assert min(len(first), len(second)) > 2 * WINDOWS  # several draws see nearly all of a half
    assert not first & second
    phrases = {text[i : i + 24] for text in first for i in range(LENGTH - 22)}
    known = [text[i : i + 24] in phrases for text in second for i in range(LENGTH - 22)]
    assert np.mean(known) < 0.02


@pytest.mark.parametrize("name", ["topics-a", "topics-b", "python-source"])
def test_no_window_is_drawn_twice(name: str) -> None:
    assert len(set(strings(draw(TEXT_SETS[name])))) > 0.98 * WINDOWS


def test_topics_are_english_of_pythons_help() -> None:
    from pydoc_data.topics import topics

    known = {word for text in topics.values() for word in re.findall(r"[a-z]+", text.lower())}
    for name in ("topics-a", "topics-b"):
        cut_off = strings(draw(TEXT_SETS[name]))
        inner = [word for text in cut_off for word in re.findall(r"(?<=[ ,])[a-z]+(?=[ ,])", text)]
        assert np.mean([word in known for word in inner]) > 0.9
        assert inner.count("the") > 300


def test_python_source_is_cut_from_the_modules() -> None:
    whole = decode(encode("\n".join(inspect.getsource(__import__(name)) for name in MODULES)))
    assert all(text in whole for text in strings(draw(TEXT_SETS["python-source"])))


def test_a_python_without_topics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DatasetError, match="without pydoc_data"):
        text_sets._topic_halves.__wrapped__()


def test_a_python_without_sources_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # One is no module, one has no source, one is small.
    monkeypatch.setattr(text_sets, "MODULES", ("no_such_module", "sys", "this"))
    with pytest.raises(DatasetError, match=r"made of 3 modules.*the source of 1: .* at least 2000"):
        text_sets._source_windows.__wrapped__()


@pytest.mark.parametrize("seed", range(4))
def test_a_pair_of_markovs_letters_has_few_successors_and_a_letter_alone_many(seed: int) -> None:
    after_pair, after_letter = defaultdict(set), defaultdict(set)
    for text in strings(draw(TEXT_SETS["markov"], seed)):
        for a, b, c in zip(text, text[1:], text[2:], strict=False):
            after_pair[a + b].add(c)
            after_letter[b].add(c)
    assert max(map(len, after_pair.values())) <= 5
    assert max(map(len, after_letter.values())) > 5
    assert 6 <= len(after_letter) <= 26


def test_how_predictable_markovs_letters_are_varies_with_the_seed() -> None:
    losses = [_loss(windows(draw(TEXT_SETS["markov"], seed)), 2) for seed in range(8)]
    assert max(losses) - min(losses) > 0.4


@pytest.mark.parametrize("seed", range(4))
def test_brackets_close_what_was_opened_last(seed: int) -> None:
    pairs = {closing: opening for opening, closing in BRACKETS}
    deepest = 0
    for text in strings(draw(TEXT_SETS["brackets"], seed)):
        stack: list[str] = []
        for sign in text:
            if sign == " ":
                assert not stack
            elif sign in pairs:
                assert stack.pop() == pairs[sign]
            else:
                assert sign in pairs.values()
                stack.append(sign)
            deepest = max(deepest, len(stack))
    assert 3 < deepest <= DEEPEST


@pytest.mark.parametrize("seed", range(4))
def test_sums_are_right(seed: int) -> None:
    results = {"+": operator.add, "-": operator.sub, "*": operator.mul}
    sums = "".join(strings(draw(TEXT_SETS["arithmetic"], seed))).split(";")[:-1]
    assert len(sums) > WINDOWS
    for each in sums:
        found = re.fullmatch(r"(\d+)([-+*])(\d+)=(-?\d+)", each)
        assert found is not None, each
        a, sign, b, result = found.groups()
        assert results[sign](int(a), int(b)) == int(result)


def _loss(whole: np.ndarray, order: int) -> float:
    """Cross-entropy, in nats a character, on the last 30 % of the windows, of counts on the others.

    Counts are of up to `order` characters before; each order falls back on the one below it.
    """
    order_of_rows = np.random.default_rng(0).permutation(len(whole))
    left, out = np.split(whole[order_of_rows], [len(whole) * 7 // 10])
    chances = np.full(out[:, 2:].size, 1 / len(SYMBOLS))
    for before in range(order + 1):
        base = len(SYMBOLS)
        contexts = [
            sum(
                part[:, 2 - back : part.shape[1] - back].ravel() * base**back for back in range(1, before + 1)
            )
            + np.zeros(part[:, 2:].size, dtype=np.int64)
            for part in (left, out)
        ]
        pairs = [context + part[:, 2:].ravel() for context, part in zip(contexts, (left, out), strict=True)]
        size = base ** (before + 1)
        seen, followed = np.bincount(contexts[0], minlength=size), np.bincount(pairs[0], minlength=size)
        chances = (followed[pairs[1]] + 2 * chances) / (seen[contexts[1]] + 2)
    return float(-np.log(chances).mean())


@SETS
def test_what_came_before_tells_of_the_next_character_and_nothing_in_shuffled_text(source: Source) -> None:
    whole = windows(draw(source))
    assert _loss(whole, 2) < _loss(whole, 0) - 0.3
    mixed = np.random.default_rng(0).permuted(whole.ravel()).reshape(whole.shape)
    assert _loss(mixed, 2) > _loss(mixed, 0) - 0.02
