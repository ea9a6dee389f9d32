"""Features and actions in words, for people who read what a policy does."""

from __future__ import annotations

import math

from rl_tuner.errors import PolicyError
from rl_tuner.features import HYPERPARAMETER_FEATURES
from rl_tuner.space import Hyperparameter, SearchSpace

_RATIOS = {
    "val_vs_last": ("validation loss", "its last value"),
    "val_vs_best": ("validation loss", "its best value"),
    "val_vs_first": ("validation loss", "its first value"),
    "train_vs_last": ("training loss", "its last value"),
    "train_vs_best": ("training loss", "its best value"),
    "train_vs_first": ("training loss", "its first value"),
    "val_over_train": ("validation loss", "the training loss"),
    "averaged_over_val": ("loss of the averaged weights", "the validation loss"),
    "train_trend": ("training loss late in the interval", "that early in it"),
    "grad_vs_last": ("gradient norm", "its last value"),
    "grad_vs_first": ("gradient norm", "its first value"),
}
"""Features that are logarithms of a ratio: (what, over what)."""

_DECADES = {
    "lr_vs_usual": ("lr", "what is usual for the optimizer"),
    "updates": ("updates in all", "100"),
    "epochs": ("passes over the data in all", "10"),
}
"""Features that are log10 of a ratio: (what, over what)."""

_FLAGS = {
    "no_validation": ("the job has no validation", "the job has validation"),
    "nonfinite": ("a loss or weight was not finite", "losses and weights were finite"),
    "rescued": ("just after a rescue by the rails", "no rescue just before"),
}
"""Features that are 0 or 1: (meaning of 1, meaning of 0)."""

_POWERS = {
    "next_interval": ("next interval's share of the budget", 1),
    "update_to_weight": ("update-to-weight ratio", 3),
}
"""Features that are log10 of something plus a constant: (what, the constant)."""

_PLAIN = {
    "progress": "progress",
    "train_noise": "training noise (std / mean)",
    "grad_alive": "share of tensors with a gradient",
    "rescues": "rescues so far over those allowed in a row",
    "since_best": "share of the budget spent since the best loss",
}

_SHARES = {
    "progress": ("in the first {} of the budget", "after {} of the budget", "from {} to {} of the budget"),
    "next_interval": (
        "next interval below {} of the budget",
        "next interval at least {} of the budget",
        "next interval {} to {} of the budget",
    ),
    "update_to_weight": (
        "updates below {} of the weights' size",
        "updates at least {} of the weights' size",
        "updates {} to {} of the weights' size",
    ),
    "grad_alive": (
        "gradients in less than {} of the tensors",
        "gradients in at least {} of the tensors",
        "gradients in {} to {} of the tensors",
    ),
    "rescues": (
        "rescues so far less than {} of those allowed in a row",
        "rescues so far at least {} of those allowed in a row",
        "rescues so far {} to {} of those allowed in a row",
    ),
    "since_best": (
        "best loss less than {} of the budget ago",
        "best loss at least {} of the budget ago",
        "best loss {} to {} of the budget ago",
    ),
}
"""How it is said that a share lies below a bound, above it, or between two."""


def move(h: Hyperparameter, fraction: float) -> str:
    """What a fraction of the step does to a hyperparameter, in words: "× 3.2", "odds × 0.37"."""
    factor = _exp(h, fraction * h.step)
    if abs(factor - 1) < 0.005:
        return "unchanged"
    shown = f"{factor:.3g}" if 0.9 < factor < 1.1 else f"{factor:.2g}"
    return f"odds × {shown}" if h.scale == "logit" else f"× {shown}"


def advice(h: Hyperparameter, fraction: float) -> str:
    """A move as one would tell it to a person: "multiply lr by 3.2", "lower dropout (as from 0.2 to 0.084)".

    A probability's change depends on where it stands: an example says it.
    """
    if h.scale != "logit":
        factor = _exp(h, fraction * h.step)
        usual = {2.0: "double", 0.5: "halve"}.get(round(factor, 9))
        return (
            f"{usual} {h.name}" if usual else f"multiply {h.name} by {move(h, fraction).removeprefix('× ')}"
        )
    how = f"{'raise' if fraction > 0 else 'lower'} {h.name}"
    example = 0.9 if h.high > 0.9 else 0.2
    moved = 1 / (1 + math.exp(-h.coordinate(example) - fraction * h.step))
    return f"{how} (as from {example} to {moved:.2g})"


def feature_words(space: SearchSpace, name: str) -> str:
    """A feature in words, as the subject of "more of it"."""
    if name in _RATIOS:
        return " over ".join(_RATIOS[name])
    if name in _DECADES:
        return " over ".join(_DECADES[name])
    if name in _FLAGS:
        return _FLAGS[name][0]
    if name in _POWERS:
        return _POWERS[name][0]
    if name in _PLAIN:
        return _PLAIN[name]
    h, kind = _own(space, name)
    return {
        "vs_start": f"{_subject(h)} over its start value",
        "in_bounds": h.name,
        "available": f"the job has {h.name}",
        "last_action": f"last change of {h.name}",
        "vs_best": f"{_subject(h)} over where the loss was best",
    }[kind]


def condition(space: SearchSpace, name: str, low: float, high: float) -> str:
    """In words, that a feature lies in [low, high); at least one of the two is finite.

    Ratios are said in per cent or as factors, a hyperparameter's place as its value, flags as what they mean.

    Args:
        space: The search space that the feature is computed over.
        name: The feature.
        low: Lower bound; -inf for none.
        high: Upper bound; inf for none.
    """
    if name in _RATIOS:
        return _ratio(*_RATIOS[name], low, high)
    if name in _DECADES:
        return _ratio(*_DECADES[name], low * math.log(10), high * math.log(10))
    if name in _FLAGS:
        return _flag(*_FLAGS[name], low, high)
    if name in _SHARES:
        plus = _POWERS[name][1] if name in _POWERS else None
        return _share(_SHARES[name], *(x if plus is None else 10 ** (x - plus) for x in (low, high)))
    if name in _PLAIN:
        return _between(_PLAIN[name], *(f"{x:.2g}" if math.isfinite(x) else None for x in (low, high)))
    h, kind = _own(space, name)
    if kind in ("vs_start", "vs_best"):
        scale = h.reach * (math.log(2) if h.scale == "log2" else 1.0)
        reference = "its start value" if kind == "vs_start" else "where the loss was best"
        return _ratio(_subject(h), reference, low * scale, high * scale)
    if kind == "in_bounds":
        return _between(h.name, *(_value(h, x) for x in (low, high)))
    if kind == "available":
        return _flag(f"the job has {h.name}", f"the job has no {h.name}", low, high)
    return _between(
        f"last change of {h.name}", *(f"{x:+.2g} steps" if math.isfinite(x) else None for x in (low, high))
    )


def _own(space: SearchSpace, name: str) -> tuple[Hyperparameter, str]:
    """The hyperparameter that a feature is about, and which of its features it is."""
    for h in space.hyperparameters:
        kind = name.removeprefix(f"{h.name}_")
        if kind in HYPERPARAMETER_FEATURES:
            return h, kind
    raise PolicyError(f"there is no feature {name!r} over {', '.join(space.names)}")


def _subject(h: Hyperparameter) -> str:
    return f"odds of {h.name}" if h.scale == "logit" else h.name


def _exp(h: Hyperparameter, distance: float) -> float:
    """The factor that a distance on the hyperparameter's scale stands for."""
    return 2.0**distance if h.scale == "log2" else math.exp(distance)


def _value(h: Hyperparameter, place: float) -> str | None:
    """The value at a place between the bounds, -1 at `low` and 1 at `high`; None at infinity."""
    if not math.isfinite(place):
        return None
    low, high = h.coordinate(h.low), h.coordinate(h.high)
    coordinate = low + (min(max(place, -1.0), 1.0) + 1) / 2 * (high - low)
    if h.scale == "logit":
        return f"{1 / (1 + math.exp(-coordinate)):.2g}"
    return f"{_exp(h, coordinate):.2g}" if h.scale == "log" else f"{_exp(h, coordinate):.3g}"


def _between(subject: str, low: str | None, high: str | None) -> str:
    if low is None:
        return f"{subject} < {high}"
    if high is None:
        return f"{subject} \u2265 {low}"
    return f"{subject} {low} to {high}"


def _share(texts: tuple[str, str, str], low: float, high: float) -> str:
    """In words, that a share lies in [low, high); a bound at 0 or below, or at infinity, is none."""
    below, above, between = texts
    if math.isinf(high):
        return above.format(_percent(low))
    return below.format(_percent(high)) if low <= 0 else between.format(_percent(low), _percent(high))


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if 99.5 <= abs(value) < 1e4 else f"{value:.2g} %"


def _flag(yes: str, no: str, low: float, high: float) -> str:
    # A flag is 0 or 1: whatever the edge, the bin that holds 1 is the one above it.
    return yes if low <= 1 < high and low > 0 else no


def _ratio(subject: str, reference: str, low: float, high: float) -> str:
    """In words, that log(subject / reference) lies in [low, high)."""
    if math.isinf(low):
        return f"{subject} {_beyond(high, below=True)} {reference}"
    if math.isinf(high):
        return f"{subject} {_beyond(low, below=False)} {reference}"
    return f"{subject} {_change(low)} to {_change(high)} of {reference}"


def _beyond(log_ratio: float, *, below: bool) -> str:
    """One side of a ratio: "> 10 % below", "< 5 % above", "> 4.5 ×"."""
    ratio = math.exp(log_ratio)
    if abs(ratio - 1) < 5e-4:
        return "below" if below else "at or above"
    if not 0.5 <= ratio <= 2:
        return f"{'<' if below else '>'} {ratio:.2g} ×"
    side, sign = ("below", ">" if below else "<") if ratio < 1 else ("above", "<" if below else ">")
    return f"{sign} {_percent(abs(ratio - 1))} {side}"


def _change(log_ratio: float) -> str:
    ratio = math.exp(log_ratio)
    return f"{100 * ratio:.0f} %" if 0.5 <= ratio <= 2 else f"{ratio:.2g} ×"
