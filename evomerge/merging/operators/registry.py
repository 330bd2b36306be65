"""Every merge operator by name."""

from collections.abc import Mapping

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.merging.operators.contract import Operator
from evomerge.merging.operators.dare_ties import DARE_TIES
from evomerge.merging.operators.linear import LINEAR
from evomerge.merging.operators.passthrough import PASSTHROUGH
from evomerge.merging.operators.slerp import SLERP
from evomerge.merging.operators.task_arithmetic import TASK_ARITHMETIC
from evomerge.merging.operators.ties import TIES

OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (LINEAR, SLERP, TASK_ARITHMETIC, TIES, DARE_TIES, PASSTHROUGH)
}


def operator(name: str) -> Operator:
    """The operator of this name.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    if name not in OPERATORS:
        raise ConfigError(unknown("operator", name, OPERATORS))
    return OPERATORS[name]
