"""How a job is tuned, whoever trains it: what a policy file tells besides the policy's space and actions."""

from __future__ import annotations

from dataclasses import dataclass

from rl_tuner.config import require_range
from rl_tuner.intervals import boundaries
from rl_tuner.rails import Rails, make_rails
from rl_tuner.rewards import reads_test, reward_function


@dataclass(frozen=True, slots=True)
class CourseConfig:
    """How a job is tuned, whoever trains it.

    Attributes:
        decisions: Policy calls a job, >= 1.
        intervals: "geometric" or "uniform".
        reward: A name of `rl_tuner.rewards.REWARDS`.
        rails: True, False or your own `Rails`.
        patience: Stop early after so many decisions without a new best loss; None for never. A phase that
            is not the job's last one goes on.
        averaging: Whether an average of the weights is kept and validated beside them
            (see `rl_tuner.averaging`), so that the best weights may be averaged ones.
        restarts: Whether a training that is past its best, or had a false start, begins again (see
            `rl_tuner.restarts`).
    """

    decisions: int = 20
    intervals: str = "geometric"
    reward: str = "log_improvement"
    rails: bool | Rails = True
    patience: int | None = None
    averaging: bool = False
    restarts: bool = False

    @property
    def tested(self) -> bool:
        """Whether the reward asks for the test loss."""
        return reads_test(self.reward)

    def __post_init__(self) -> None:
        require_range("decisions", self.decisions, 1)
        if self.patience is not None:
            require_range("patience", self.patience, 1)
        reward_function(self.reward)
        make_rails(self.rails)
        boundaries(self.decisions, self.decisions, self.intervals)
