"""A program for test_edge_sockets.py: the whole endpoint in a process of its own, over a slow fake engine.

Prints its port; says twenty words, one every 0.05 s.
"""

from fake_engine import FakeEngine

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.server import EdgeServer, bind, drain_on_signals, serve_until_drained
from moedge.edge_server.service import Service


def main() -> None:
    service = Service()
    service.open(FakeEngine(lambda prompt: ["word "] * 20, step_seconds=0.05))
    server = EdgeServer(create_app(service, Guard()), bind("127.0.0.1", 0), streams=4)
    drain_on_signals(server, service)
    print(server.effective_port, flush=True)
    serve_until_drained(server, service, 30.0, lambda: False)


if __name__ == "__main__":
    main()
