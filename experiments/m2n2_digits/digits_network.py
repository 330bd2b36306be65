"""The test-bed: scikit-learn's 8x8 digits and a 64-256-10 network as one flat vector.

Pixels keep their values 0..16; the first 80 % of the 1797 images in file order train (1437),
the rest tests (360). The flat vector holds the 64x256 first layer, its biases, the 256x10
second layer and its biases: 19210 numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

PIXELS, HIDDEN, CLASSES = 64, 256, 10
FIRST_LAYER = (PIXELS + 1) * HIDDEN
DIMENSION = FIRST_LAYER + (HIDDEN + 1) * CLASSES
INITIAL_DEVIATION = 0.01

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Digits:
    """Images with a constant 1 as 65th pixel, shape (n, 65), and their labels, shape (n,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load() -> tuple[Digits, Digits]:
    """Return the training and the test images."""
    images, labels = load_digits(return_X_y=True)
    with_bias = np.hstack([images, np.ones((len(images), 1))]).astype(np.float32)
    border = int(len(images) * 0.8)
    labels = labels.astype(np.int64)
    train = Digits(with_bias[:border], labels[:border])
    return train, Digits(with_bias[border:], labels[border:])


class Grader:
    """Tells which images of a set a network gets right.

    Both layers' biases lie right behind their weights in the flat vector, so that a constant
    input turns each layer into one matrix product. With numpy's BLAS, one network at a time:
    0.8 ms for the training images, where `torch.bmm` on ten networks takes 2 ms each
    (measured on one core of an AMD EPYC).
    """

    def __init__(self, digits: Digits) -> None:
        self._digits = digits
        self._hidden = np.empty((len(digits.labels), HIDDEN), np.float32)

    def right(self, weights: Vector) -> NDArray[np.float32]:
        """Return 1 for each image whose highest logit is its label's, else 0, shape (n,)."""
        first = weights[:FIRST_LAYER].reshape(PIXELS + 1, HIDDEN)
        second = weights[FIRST_LAYER:-CLASSES].reshape(HIDDEN, CLASSES)
        np.matmul(self._digits.images, first, out=self._hidden)
        np.maximum(self._hidden, 0, out=self._hidden)
        logits = self._hidden @ second
        logits += weights[-CLASSES:]
        matches = logits.argmax(axis=1) == self._digits.labels
        return matches.astype(np.float32)

    def accuracy(self, weights: Vector) -> float:
        """Return the share of images that the network gets right."""
        return float(self.right(weights).mean(dtype=np.float64))


def random_network(rng: np.random.Generator) -> Vector:
    """Draw an untrained network: every number from N(0, 0.01^2), biases too."""
    return rng.standard_normal(DIMENSION, dtype=np.float32) * np.float32(INITIAL_DEVIATION)


def train(weights: Vector, digits: Digits, steps: int = 10) -> Vector:
    """Return the network after `steps` of Adam (0.003) on the cross-entropy of all images."""
    flat = torch.from_numpy(weights.copy()).requires_grad_()
    images = torch.from_numpy(digits.images)
    labels = torch.from_numpy(digits.labels)
    adam = torch.optim.Adam([flat], lr=0.003)
    for _ in range(steps):
        adam.zero_grad()
        hidden = torch.relu(images @ flat[:FIRST_LAYER].view(PIXELS + 1, HIDDEN))
        logits = hidden @ flat[FIRST_LAYER:-CLASSES].view(HIDDEN, CLASSES) + flat[-CLASSES:]
        cross_entropy(logits, labels).backward()
        adam.step()
    return flat.detach().numpy()


def train_pair(first: Vector, second: Vector, digits: Digits) -> tuple[Vector, Vector]:
    """Train one network on the digits 0-4, the other on 5-9."""
    low = digits.labels < 5
    return (
        train(first, Digits(digits.images[low], digits.labels[low])),
        train(second, Digits(digits.images[~low], digits.labels[~low])),
    )
