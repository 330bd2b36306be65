"""Every error evomerge raises on purpose, as one small tree.

EvomergeError
├── ConfigError          a file, key or flag of the user's is wrong      exit 2
├── CheckpointError      a source model cannot be read or does not fit   exit 4
├── StoreError           a run directory is locked, foreign or broken    exit 5
├── TrialError           one candidate failed; never ends a search       exit 6
└── WorkersError         no worker is left, or the cluster has gone      exit 7
"""


class EvomergeError(Exception):
    """Something the user can act on; the command line prints it without a traceback."""

    exit_code = 1


class ConfigError(EvomergeError):
    """An experiment, preset, recipe or flag is wrong.

    Args:
        problems: One message, or every problem found in one pass.
    """

    exit_code = 2

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class CheckpointError(EvomergeError):
    """A source model cannot be read, is damaged, or does not fit the others."""

    exit_code = 4


class StoreError(EvomergeError):
    """A run directory is in use, not ours, from another version, or cannot be written."""

    exit_code = 5


class TrialError(EvomergeError):
    """One candidate could not be merged or scored; becomes a failed trial with this reason."""

    exit_code = 6


class WorkersError(EvomergeError):
    """No worker can be had any more: the cluster has gone, or none of them can start."""

    exit_code = 7
