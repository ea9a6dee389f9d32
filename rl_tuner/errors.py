"""The errors rl-tuner raises. Each message names the thing, its value and the limit."""


class RlTunerError(Exception):
    """Base of every error that rl-tuner raises on purpose."""


class ConfigError(RlTunerError):
    """A setting is unknown, of the wrong type, or out of its range."""


class JobError(RlTunerError):
    """A training job cannot be built or cannot go on."""


class PolicyError(RlTunerError):
    """A policy file is unreadable, of an unknown version, or does not fit the job."""


class DatasetError(RlTunerError):
    """A dataset is missing, malformed, or unfit for the task."""
