"""Fixtures that several test files share."""

import pytest
from fake_engine import FakeEngine
from tiny_bundle import engine_that_says

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.service import Service


@pytest.fixture
def serve():
    services = []

    def serve(engine=None, guard=None, **settings):
        service = Service()
        service.open(engine or FakeEngine(), **settings)
        services.append((engine, service))
        return create_app(service, guard or Guard()).test_client()

    yield serve
    for engine, service in services:
        if engine is not None:
            engine.gate.set()
        service.close()


@pytest.fixture
def engine(tmp_path):
    return engine_that_says(tmp_path, "hello wörld!")
