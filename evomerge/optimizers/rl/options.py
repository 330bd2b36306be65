"""The options of reinforcement learning, apart from it so that checking a file loads little."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel


@dataclass(frozen=True, config=CLOSED)
class RlOptions(Parallel):
    """Options of proximal policy optimisation; an episode is one candidate."""

    episodes: int = Field(
        default=8,
        ge=2,
        le=1000,
        description="Candidates drawn from one policy before it learns from them.",
    )
    window: int = Field(
        default=64,
        ge=4,
        le=10_000,
        description="Rewards are ranks among this many of the latest candidates.",
    )
    epochs: int = Field(
        default=5, ge=1, le=200, description="Gradient steps of one round of learning."
    )
    learning_rate: float = Field(
        default=0.003,
        gt=0,
        le=0.1,
        description="Step size of the policy; that of its critic is three times as large.",
    )
    clip: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="By which share a round of learning may change the chance of an action.",
    )
    entropy: float = Field(
        default=0.01, ge=0, le=1, description="Weight of staying open to other actions."
    )
    discount: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="What a gene's share of the reward is multiplied by for each gene that "
        "comes after it; 1 suits long genomes.",
    )
