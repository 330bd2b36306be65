"""The options of CMA-ES."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel

Covariance = Literal["auto", "full", "diagonal", "vd", "vkd"]
"""Which correlations between genes are learned."""

Noise = Literal["none", "standard_errors", "lra"]
"""What is done about scores that are uncertain."""

Restarts = Literal["ipop", "bipop", "none"]
"""Where the search goes on when it has converged."""


@dataclass(frozen=True, config=CLOSED)
class CmaEsOptions(Parallel):
    """Options of CMA-ES."""

    population: int | None = Field(
        default=None,
        ge=4,
        le=10_000,
        description="Candidates a generation; none means 4 + 3 ln(number of genes). "
        "Restarts change it.",
    )
    sigma: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="First standard deviation, as a share of a gene's range.",
    )
    covariance: Covariance = Field(
        default="auto",
        description="Correlations between genes that are learned: full, all of them, variances "
        "first (dd-CMA); diagonal, none (sep-CMA-ES); vd, one common direction (VD-CMA); vkd, "
        "as many as pay (VkD-CMA), both from 10 genes on. auto: full up to 100 genes, "
        "vd above, since full takes time and memory in the square of the number of genes.",
    )
    restarts: Restarts = Field(
        default="ipop",
        description="After convergence start again elsewhere: ipop, with twice the population; "
        "bipop, by turns with larger populations and with small ones that begin with smaller "
        "steps; none ends the search.",
    )
    noise: Noise = Field(
        default="none",
        description="For scores from items that differ between candidates: standard_errors "
        "keeps the steps from shrinking while the order of a generation is mostly chance; lra "
        "learns the slower, the less successive generations agree (LRA-CMA-ES). Both cost "
        "candidates, which few hundred do not win back, and scores from the same items need "
        "neither.",
    )

    @model_validator(mode="after")
    def _fitting_together(self) -> Self:
        if self.noise == "lra" and self.covariance not in {"auto", "full"}:
            raise ValueError(
                f"'noise: lra' learns all correlations; leave 'covariance: {self.covariance}' "
                "out, or take 'noise: standard_errors'"
            )
        if self.covariance == "vkd" and (self.ahead or self.asynchronous):
            raise ValueError(
                "'covariance: vkd' sets its steps by two mirrored samples of each generation, "
                "so nothing can be proposed ahead or asynchronously; take 'covariance: vd'"
            )
        return self
