"""Ports of this machine's loopback."""

import socket

from reelmill.errors import UserError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def require_free(port: int, remedy: str) -> None:
    """Raise `UserError` with the remedy when something answers on a port; 0 is any free one."""
    with socket.socket() as probe:
        if port and probe.connect_ex((LOOPBACK, port)) == 0:
            raise UserError(f"port {port} on {LOOPBACK} is taken. {remedy}")
