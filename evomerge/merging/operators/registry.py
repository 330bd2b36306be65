"""Every merge operator by name: evomerge's own and those of plugins."""

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.core.plugins import Registry
from evomerge.merging.operators.aim import AIM
from evomerge.merging.operators.arcee_fusion import ARCEE_FUSION
from evomerge.merging.operators.breadcrumbs import BREADCRUMBS, BREADCRUMBS_TIES
from evomerge.merging.operators.consensus_ta import CONSENSUS_TA
from evomerge.merging.operators.contract import Operator
from evomerge.merging.operators.dare import DARE_LINEAR, DARE_TIES
from evomerge.merging.operators.dc_merge import DC_MERGE
from evomerge.merging.operators.della import DELLA, DELLA_LINEAR
from evomerge.merging.operators.emr import EMR
from evomerge.merging.operators.fisher import FISHER
from evomerge.merging.operators.iso_c import ISO_C
from evomerge.merging.operators.iso_cts import ISO_CTS
from evomerge.merging.operators.karcher import KARCHER
from evomerge.merging.operators.linear import LINEAR
from evomerge.merging.operators.model_stock import MODEL_STOCK
from evomerge.merging.operators.multislerp import MULTISLERP
from evomerge.merging.operators.nearswap import NEARSWAP
from evomerge.merging.operators.nuslerp import NUSLERP
from evomerge.merging.operators.passthrough import PASSTHROUGH
from evomerge.merging.operators.pcb import PCB
from evomerge.merging.operators.ram import RAM, RAMPLUS_TL
from evomerge.merging.operators.regmean import REGMEAN
from evomerge.merging.operators.sce import SCE
from evomerge.merging.operators.segments import SEGMENTS
from evomerge.merging.operators.slerp import SLERP
from evomerge.merging.operators.star import STAR
from evomerge.merging.operators.task_arithmetic import TASK_ARITHMETIC
from evomerge.merging.operators.ties import TIES
from evomerge.merging.operators.tsv_m import TSV_M
from evomerge.merging.operators.widen import WIDEN
from evomerge.merging.operators.wudi import WUDI

_OWN = (
    LINEAR,
    SLERP,
    TASK_ARITHMETIC,
    TIES,
    DARE_LINEAR,
    DARE_TIES,
    DELLA,
    DELLA_LINEAR,
    BREADCRUMBS,
    BREADCRUMBS_TIES,
    PASSTHROUGH,
    NUSLERP,
    MULTISLERP,
    KARCHER,
    MODEL_STOCK,
    NEARSWAP,
    ARCEE_FUSION,
    SCE,
    RAM,
    RAMPLUS_TL,
    PCB,
    CONSENSUS_TA,
    EMR,
    WIDEN,
    TSV_M,
    ISO_C,
    ISO_CTS,
    WUDI,
    STAR,
    DC_MERGE,
    FISHER,
    REGMEAN,
    AIM,
    SEGMENTS,
)

OPERATORS = Registry("operators", {operator.name: operator for operator in _OWN}, Operator)


def operator(name: str) -> Operator:
    """The operator of this name.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    if name not in OPERATORS:
        raise ConfigError(unknown("operator", name, OPERATORS))
    return OPERATORS[name]
