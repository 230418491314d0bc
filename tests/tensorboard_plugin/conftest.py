"""TensorBoard servers that end with the test."""

import pytest
from tab_server import Server


@pytest.fixture
def serve():
    """Starts a server over a log directory and waits until it has read what the test needs."""
    servers = []

    def start(logdir, loader="slow", samples="", ready=None):
        server = Server(logdir, loader, samples)
        servers.append(server)
        if ready is not None:
            server.wait_for(ready)
        return server

    yield start
    for server in servers:
        server.close()
