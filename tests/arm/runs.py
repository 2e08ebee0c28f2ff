"""All programs that the tests read results of, begun at once and run two at a time: each takes seconds of emulation."""

import http.client
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import numpy as np
from boards import BOARDS, MAX, PI4, PI5, Board
from emulated import Place, emulate, this_machine
from operator_models import write_models

from moedge.edge_server.startup import EXAMPLE_TOOL

HERE = Path(__file__).parent
JOBS = 2
REQUEST = {
    "messages": [{"role": "user", "content": "turn on the kitchen light"}],
    "tools": [EXAMPLE_TOOL],
    "temperature": 0,
    "max_tokens": 96,
}
X86 = "this machine"  # beside the boards' names


class Runs:
    """Results by what was run and where: `runs["model", "Cortex-A53"]` waits until they are there."""

    def __init__(self, bundle: Path, debian: Path, folder: Path) -> None:
        self._bundle, self._debian, self._folder = bundle, debian, folder
        self._pool = ThreadPoolExecutor(JOBS)
        self._begun: dict[tuple[str, str], Future[Any]] = {}
        models = folder / "models"
        models.mkdir()
        write_models(models)
        for name, place in {X86: this_machine(), **{each.name: self._board(each) for each in BOARDS}}.items():
            self._begin("model", name, lambda place=place, name=name: run_model(place, bundle, folder / f"{name}.npz"))
            self._begin("answer", name, lambda place=place: ask_server(place, bundle))
            if name != X86:
                self._begin("devices", name, lambda place=place: succeed(place.moedge("devices", "--json")))
                words = HERE / "run_operators.py", models
                self._begin("operators", name, lambda place=place, words=words: succeed(place.run(*words)))
        self._begin_lies()

    def __getitem__(self, key: tuple[str, str]) -> Any:
        return self._begun[key].result()

    def close(self) -> None:
        """What was not begun is not run."""
        self._pool.shutdown(cancel_futures=True)

    def _board(self, described: Board, cpu: str | None = None) -> Place:
        return emulate(described, self._debian, self._folder, cpu)

    def _begin(self, what: str, where: str, task: Callable[[], Any]) -> None:
        self._begun[what, where] = self._pool.submit(task)

    def _begin_lies(self) -> None:
        """On a Raspberry Pi 4: as its system says that it is a 5, and as the user does."""
        verbs = {"run": ("run", self._bundle, "hello"), "serve": ("serve", self._bundle, "--port", "0")}
        system, user, every = self._board(PI5, PI4.cpu), self._board(PI4), self._board(MAX, "cortex-a53")
        self._begin("read", "cpuinfo", lambda: system.run("-c", "print(open('/proc/cpuinfo').read())"))
        for verb, words in verbs.items():
            self._begin(verb, "cpuinfo", lambda words=words: system.moedge(*words))
        words = *verbs["run"], "--device", "raspberry-pi-5-8gb"
        self._begin("run", "profile", lambda: user.moedge(*words))
        self._begin("import", "max", lambda: every.run("-c", "import onnxruntime; print('imported')"))


def succeed(done: CompletedProcess[str]) -> Any:
    """The JSON that a program printed."""
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def run_model(place: Place, bundle: Path, results: Path) -> dict[str, np.ndarray]:
    """What run_model.py gives."""
    done = place.run(HERE / "run_model.py", bundle, results)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return dict(np.load(results))


def ask_server(place: Place, bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message and the usage that `moedge serve` answers the request with."""
    with serving(place.start_moedge("serve", bundle, "--port", "0")) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/v1/chat/completions", json.dumps(REQUEST), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = json.loads(response.read())
        connection.close()
    assert response.status == 200, body
    return body["choices"][0]["message"], body["usage"]


@contextmanager
def serving(child: Popen[str]) -> Iterator[int]:
    """The port that a server answers at; it must end well when it is told to."""
    with child:
        try:
            assert child.stdout is not None
            greeting = child.stdout.readline()
            assert " answers at " in greeting, greeting
            yield int(greeting.rpartition(":")[2].partition("/")[0])
        finally:
            child.send_signal(signal.SIGTERM)
            code = child.wait(60)
        assert code == 0, code
