"""Every error that flipkd_sdk raises on purpose.

Each message is one line that names the file, row or option at fault and says what to do about it, so that the command
line can print it as it is.
"""


class FlipKDError(Exception):
    """Base of all errors raised on purpose by this package."""


class InvalidPairsError(FlipKDError, ValueError):
    """A file of pairs or texts that cannot be used; the message names the file, the line and the column."""


class InvalidTextError(FlipKDError, ValueError):
    """A text that is not a string; the message names its position in the input."""


class TextTooLongError(FlipKDError, ValueError):
    """A text longer than the matcher's ``max_length``, where ``on_truncate="error"`` was asked for."""


class ConfigError(FlipKDError, ValueError):
    """A training or export option that is unknown, malformed or contradicts another one."""


class ModelSourceError(FlipKDError):
    """A model source that does not exist or cannot be loaded."""


class TrainingError(FlipKDError):
    """Training cannot go on or its run directory cannot be used."""


class MatcherDirectoryError(FlipKDError):
    """A matcher directory with a missing, changed, foreign or malformed file."""


class UnsupportedFormatError(MatcherDirectoryError):
    """A matcher directory of a format version that this release cannot read."""


class CandidateSetError(FlipKDError):
    """A directory of candidates with a missing, changed or malformed file, or one that another matcher made."""


class VerificationError(FlipKDError):
    """An exported variant outside its limits; the message carries the measured figures."""


class ExecutionError(FlipKDError):
    """No usable onnxruntime, or the requested device is not what would actually run."""


class SelfTestError(FlipKDError):
    """A variant that gives other vectors on this machine than on the one that exported it."""


class MatcherClosedError(FlipKDError):
    """A matcher was used after ``close()``."""


class OutputExistsError(FlipKDError):
    """An output is already there and overwriting it was not asked for."""
