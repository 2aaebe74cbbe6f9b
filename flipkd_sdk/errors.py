"""The errors that flipkd_sdk raises on purpose.

Each message is one line that names the file, row or option at fault and the remedy, so that the command line can print
it as it is.
"""


class FlipKDError(Exception):
    """Base of all errors raised on purpose by this package."""


class InvalidPairsError(FlipKDError, ValueError):
    """A file of pairs or texts that cannot be used; the message names the file, the line and the column."""


class InvalidTextError(FlipKDError, ValueError):
    """A text that is not a string; the message names its position in the input."""


class TextTooLongError(FlipKDError, ValueError):
    """A text longer than the matcher's ``max_length``, refused by ``on_truncate="error"``."""


class ConfigError(FlipKDError, ValueError):
    """An option or argument that is unknown, of a wrong type or value, or contradicts another one."""


class ModelSourceError(FlipKDError):
    """A model source that does not exist or cannot be loaded."""


class TrainingError(FlipKDError):
    """A training run that cannot continue, or a run directory that cannot be used."""


class MatcherDirectoryError(FlipKDError):
    """A matcher directory with a missing, changed, foreign or malformed file."""


class UnsupportedFormatError(MatcherDirectoryError):
    """A matcher directory of a format version that this release cannot read."""


class CandidateSetError(FlipKDError):
    """A directory of candidates with a missing, changed or malformed file, or of another matcher."""


class HubError(FlipKDError):
    """A model hub that refuses a request or cannot be reached."""


class VerificationError(FlipKDError):
    """An exported variant outside its limits; the message carries the measured figures."""


class ExecutionError(FlipKDError):
    """No usable onnxruntime, or a requested device that is not the one that would run."""


class SelfTestError(FlipKDError):
    """A variant that returns other vectors on this machine than on the one that exported it."""


class MatcherClosedError(FlipKDError):
    """A matcher, `MicroBatcher` or `AsyncMatcher` that is used after it was closed."""


class OutputExistsError(FlipKDError):
    """An output that exists already and may not be overwritten."""
