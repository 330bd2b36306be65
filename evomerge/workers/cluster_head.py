"""ClusterHead: notices that the head of a cluster has gone before that ends the driver."""

import socket
import time

from evomerge.core.errors import WorkersError

_HEAD_SECONDS = 3.0
"""Between looks."""

_HEAD_GONE_SECONDS = 15.0
"""Without an answer, after which the run ends. Ray itself kills the driver after 60."""


class ClusterHead:
    """Watches whether the head of a cluster still answers.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._looked = time.monotonic()
        self._answered = self._looked

    def check(self, now: float) -> None:
        """Look every few seconds.

        Raises:
            WorkersError: The head has not answered for a while.
        """
        if now - self._looked < _HEAD_SECONDS:
            return
        self._looked = now
        if self.answers():
            self._answered = now
        elif now - self._answered > _HEAD_GONE_SECONDS:
            raise WorkersError(
                f"the head of the Ray cluster at {self.address} has not answered for "
                f"{now - self._answered:.0f} s. Every finished trial is recorded; resume when "
                "the cluster is back, or on another one."
            )

    def answers(self) -> bool:
        """Whether it takes a connection."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
                return True
        except OSError:
            return False
