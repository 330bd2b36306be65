"""Shows which digits the best network of one run knows, and which it has given up.

The README has a command.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch

from experiments.m2n2_digits import digits_network
from experiments.m2n2_digits.digits_network import CLASSES, Digits, Grader, Vector
from experiments.m2n2_digits.methods import Bed
from experiments.m2n2_digits.run import BUDGETS, METHODS, MUTATION, seed_networks


class RememberingGrader(Grader):
    """A grader that keeps the last network whose accuracy was asked for."""

    def __init__(self, digits: Digits) -> None:
        super().__init__(digits)
        self.last = np.zeros(digits_network.DIMENSION, np.float32)

    def accuracy(self, weights: Vector) -> float:
        """Return the share of images that the network gets right."""
        self.last = weights.copy()
        return super().accuracy(weights)


def main() -> None:
    """Repeat one run and print the best network's training accuracy on each digit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("start", choices=list(METHODS))
    parser.add_argument("method")
    parser.add_argument("--run", type=int, default=0)
    parser.add_argument("--evaluations", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, test = digits_network.load()
    bed = Bed(train, test, seed_networks(arguments.start, 0, arguments.run))
    bed.test = reported = RememberingGrader(test)
    budget = BUDGETS[arguments.start]
    budget = replace(budget, evaluations=arguments.evaluations or budget.evaluations)
    search = METHODS[arguments.start][arguments.method]
    rng = np.random.default_rng([arguments.run, 1])
    *_, last = search(bed, MUTATION[arguments.start], budget, rng)
    right = bed.train.right(reported.last)
    shares = [right[train.labels == digit].mean() for digit in range(CLASSES)]
    print(last)
    print(" ".join(f"{digit}: {share:.2f}" for digit, share in enumerate(shares)))


if __name__ == "__main__":
    main()
