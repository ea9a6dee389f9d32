"""Text for character models: English and Python source that ship with CPython, and artificial languages.

Every set has one alphabet, windows of one length and the next character as the target at every position, so
that one network fits all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import util
from importlib.abc import InspectLoader

import numpy as np
from numpy.typing import NDArray

from rl_tuner.envs.samples import Samples
from rl_tuner.errors import DatasetError

LENGTH = 32
"""Characters a model reads; its targets are one character further."""
WINDOWS = 2000
ALPHABET = "\n abcdefghijklmnopqrstuvwxyz0123456789!\"#%'()*+,-./:;<=>?[]_{|}"
SYMBOLS = (*ALPHABET, "other")
"""Names of the symbols by number. Every character outside of the alphabet is the last one."""
BRACKETS = ("()", "[]", "{}", "<>")
DEEPEST = 8
"""How many brackets are open at once, at most."""
MODULES = (
    "argparse",
    "ast",
    "configparser",
    "difflib",
    "doctest",
    "mailbox",
    "optparse",
    "statistics",
    "tarfile",
)
"""Modules of the standard library whose source is a text; a version of Python may lack some."""
_PLAIN = str.maketrans(
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}“”\N{EN DASH}—\t", "''\"\"-- "
)
"""What is read as another symbol."""

Tokens = NDArray[np.int64]


def encode(text: str) -> Tokens:
    """Text as numbers of `SYMBOLS`, shape (characters,): in lower case, typographic signs as plain ones."""
    numbers = np.full(128, len(ALPHABET), dtype=np.int64)
    numbers[[ord(symbol) for symbol in ALPHABET]] = np.arange(len(ALPHABET))
    codes = np.frombuffer(text.lower().translate(_PLAIN).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    tokens: Tokens = numbers[np.minimum(codes, 127)]
    return tokens


def decode(tokens: Iterable[int]) -> str:
    """The text of numbers of `SYMBOLS`; what is outside of the alphabet as "�"."""
    return "".join((ALPHABET + "�")[token] for token in tokens)


def cut(tokens: Tokens) -> Tokens:
    """Non-overlapping windows of `LENGTH` + 1 tokens, shape (windows, `LENGTH` + 1); the rest is left out."""
    whole = len(tokens) // (LENGTH + 1)
    return tokens[: whole * (LENGTH + 1)].reshape(whole, LENGTH + 1)


def _next_characters(windows: Tokens) -> Samples:
    """Samples of windows (n, `LENGTH` + 1): inputs and targets both of shape (n, `LENGTH`)."""
    return Samples("tokens", windows[:, :-1], windows[:, 1:], classes=SYMBOLS, vocabulary=(len(SYMBOLS),))


def _draw(windows: Tokens, rng: np.random.Generator) -> Samples:
    """`WINDOWS` of the windows, or all if they are fewer, in the order of the text."""
    n = min(WINDOWS, len(windows))
    return _next_characters(windows[np.sort(rng.choice(len(windows), n, replace=False))])


def topics_a(rng: np.random.Generator) -> Samples:
    """English: one half of the topics of Python's ``help()``. No window of it occurs in `topics_b`.

    Raises:
        DatasetError: This Python comes without them.
    """
    return _draw(_topic_halves()[0], rng)


def topics_b(rng: np.random.Generator) -> Samples:
    """English: the other half of the topics of Python's ``help()``; see `topics_a`."""
    return _draw(_topic_halves()[1], rng)


@lru_cache(maxsize=1)
def _topic_halves() -> tuple[Tokens, Tokens]:
    """Windows of two halves of the topics, without a paragraph or a window in common.

    Topics repeat each other ("compound" holds all of "while"): the first, by size, keeps a paragraph.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DatasetError(
            "this Python comes without pydoc_data, the text of topics-a and topics-b"
        ) from error
    halves: tuple[list[str], list[str]] = ([], [])
    sizes = [0, 0]
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = [_tidy(paragraph) for paragraph in re.split(r"\n\s*\n", topics[name])]
        fresh = [paragraph for paragraph in paragraphs if paragraph not in seen]
        seen.update(fresh)
        smaller = int(sizes[1] < sizes[0])
        halves[smaller].extend(fresh)
        sizes[smaller] += sum(map(len, fresh))
    first, second = (cut(encode("\n\n".join(half))) for half in halves)
    _, kept = np.unique(np.concatenate([first, second]), axis=0, return_index=True)
    kept.sort()
    whole = np.concatenate([first, second])[kept]
    border = int(np.searchsorted(kept, len(first)))
    return _frozen(whole[:border]), _frozen(whole[border:])


def _tidy(paragraph: str) -> str:
    """A paragraph without indentation and without lines drawn by repeating a sign."""
    return re.sub(r" +", " ", re.sub(r"([^\w\s])\1{3,}", "", paragraph)).strip()


def _frozen(tokens: Tokens) -> Tokens:
    """The tokens, which every set drawn from them shares."""
    tokens.setflags(write=False)
    return tokens


def python_source(rng: np.random.Generator) -> Samples:
    """Source of Python's standard library: `MODULES`.

    Raises:
        DatasetError: This Python comes without the source.
    """
    return _draw(_source_windows(), rng)


@lru_cache(maxsize=1)
def _source_windows() -> Tokens:
    sources = [source for source in map(_source, MODULES) if source]
    windows = cut(encode("\n".join(sources)))
    if len(windows) < WINDOWS:
        raise DatasetError(
            f"python-source is made of {len(MODULES)} modules, {MODULES[0]} to {MODULES[-1]}; this Python "
            f"has the source of {len(sources)}: {len(windows)} windows of text, at least {WINDOWS} are needed"
        )
    return _frozen(windows)


def _source(module: str) -> str:
    """A module's source without running it; "" if there is none."""
    spec = util.find_spec(module)
    loader = None if spec is None else spec.loader
    return (loader.get_source(module) or "") if isinstance(loader, InspectLoader) else ""


def markov(rng: np.random.Generator) -> Samples:
    """A Markov chain of order 2: a pair of letters has 2 to 5 successors, with probabilities of its own.

    The number of letters and how even the probabilities are, and so the lowest possible loss, vary.
    """
    letters, successors = int(rng.integers(6, 27)), int(rng.integers(2, 6))
    pairs = letters * letters
    following = rng.integers(letters, size=(pairs, successors))
    shares = rng.dirichlet(np.full(successors, 10 ** rng.uniform(-0.7, 0.5)), size=pairs).cumsum(axis=1)
    before, last = rng.integers(letters, size=(2, WINDOWS))
    settle = 20
    text = np.empty((settle + LENGTH + 1, WINDOWS), dtype=np.int64)
    for step in range(len(text)):
        pair = before * letters + last
        choice = (rng.random(WINDOWS)[:, None] > shares[pair, :-1]).sum(axis=1)
        before, last = last, following[pair, choice]
        text[step] = last
    return _next_characters(text[settle:].T + encode("a"))


def brackets(rng: np.random.Generator) -> Samples:
    """Dyck words, separated by spaces: what closes must match what was opened last, up to `DEEPEST` deep.

    The kinds of brackets and how soon they close vary.
    """
    kinds, opens = int(rng.integers(1, len(BRACKETS) + 1)), rng.uniform(0.35, 0.65)
    opening, closing = (encode("".join(pair[side] for pair in BRACKETS)) for side in (0, 1))
    rows = np.arange(WINDOWS)
    stack = np.zeros((WINDOWS, DEEPEST), dtype=np.int64)
    depth = np.zeros(WINDOWS, dtype=np.int64)
    text = np.empty((WINDOWS, LENGTH + 1), dtype=np.int64)
    chances = rng.random((LENGTH + 1, WINDOWS))
    drawn = rng.integers(kinds, size=(LENGTH + 1, WINDOWS))
    for step in range(LENGTH + 1):
        ends = (depth == 0) & (step > 0) & (chances[step] < 0.3)  # a space between words
        opened = ~ends & ((depth == 0) | ((depth < DEEPEST) & (chances[step] < opens)))
        closed = ~ends & ~opened
        top = stack[rows, np.maximum(depth - 1, 0)]
        text[:, step] = np.where(opened, opening[drawn[step]], np.where(closed, closing[top], encode(" ")))
        stack[rows[opened], depth[opened]] = drawn[step, opened]
        depth += opened.astype(np.int64) - closed
    return _next_characters(text)


def arithmetic(rng: np.random.Generator) -> Samples:
    """Sums that are right: "12+7=19;31-4=27;". The size of the numbers and the operators vary."""
    operators = ("+", "+-", "+-*")[rng.integers(3)]
    most = int(rng.integers(5, 100))
    count = WINDOWS * (LENGTH + 1) // len("1+1=2;") + 1  # enough however short they are
    numbers = rng.integers(most + 1, size=(count, 2)).tolist()
    chosen = rng.integers(len(operators), size=count).tolist()
    results = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    sums = [
        f"{a}{operators[sign]}{b}={results[operators[sign]](a, b)};"
        for (a, b), sign in zip(numbers, chosen, strict=True)
    ]
    return _next_characters(cut(encode("".join(sums)))[:WINDOWS])


TEXT_SETS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "topics-a": topics_a,
    "topics-b": topics_b,
    "python-source": python_source,
    "markov": markov,
    "brackets": brackets,
    "arithmetic": arithmetic,
}
"""Functions from a generator to a set, by name."""
