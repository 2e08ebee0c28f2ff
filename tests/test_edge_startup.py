"""`moedge serve` up to the loaded model, in this process: what its options reach, what stands on stderr meanwhile."""

import io
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from fake_engine import FakeEngine
from serve_verb import serve_fixture, wait_for
from tiny_bundle import write_tiny_bundle

from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.models import loading
from moedge.runtime import progress
from moedge.runtime.chat.wishes import Wishes
from moedge.runtime.sampling import SamplingParams


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


serve = pytest.fixture(serve_fixture, name="serve")


@pytest.fixture
def altered(tmp_path):
    """A bundle whose template has another letter than was written."""
    bundle = write_tiny_bundle(tmp_path / "toy")
    template = bundle / "chat_template.jinja"
    template.write_text(template.read_text().replace("im_end", "im_and"))
    return bundle


def test_hashes_are_checked_unless_told_otherwise(serve, altered, capsys):
    code, _ = serve(altered)
    assert code == 1
    assert "'chat_template.jinja' is not as it was written" in capsys.readouterr().err
    code, service = serve(altered, "--no-check-hashes")
    assert code == 0
    assert service.loaded.engine.manifest.name == "toy"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("places", [1, 2])
def test_who_has_several_places_is_told_that_they_take_turns(serve, tmp_path, capsys, places):
    code, _ = serve(write_tiny_bundle(tmp_path / "toy"), "--max-running", str(places))
    assert code == 0
    assert capsys.readouterr().out.count("Requests take turns") == (places > 1)


def test_a_terminal_sees_how_far_the_check_is_and_keeps_its_cursor(serve, tmp_path, monkeypatch):
    bundle = write_tiny_bundle(tmp_path / "toy")
    monkeypatch.setenv("TERM", "xterm-256color")
    for key in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(key, raising=False)
    for big, shown in ((1, True), (1 << 30, False)):
        monkeypatch.setattr(progress, "BIG_BYTES", big)
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert serve(bundle)[0] == 0
        told = sys.stderr.getvalue()
        assert ("check" in told) == shown
        assert told.rfind("\x1b[?25l") <= told.rfind("\x1b[?25h")


def test_a_log_sees_how_far_the_check_is_now_and_then(capsys):
    seconds = iter([0, 5, 10, 10, 11, 19, 25, 25])
    show = progress.lines("check", lambda: next(seconds))
    for done in (1, 2, 3, 4, 5):
        show(done << 30, 8 << 30)
    assert capsys.readouterr().err == "check: 2.0 of 8.0 GiB\ncheck: 5.0 of 8.0 GiB\n"


@pytest.mark.parametrize(
    ("options", "status"),
    [((), 200), (("--stalled-after-s", "60"), 503), (("--stalled-after-s", "0"), 200)],
    ids=["default", "60", "0"],
)
def test_livez_calls_a_step_hung_only_after_the_time_that_was_set(serve, tmp_path, monkeypatch, options, status):
    """A chunk of a long prompt takes minutes on a small board: 100 s are no hang unless somebody says so."""
    engine = FakeEngine(chat_format="plain")
    engine.gate.clear()
    monkeypatch.setattr(loading, "Engine", SimpleNamespace(load=lambda *_, **__: engine))
    engine.shows_tools = True
    code, service = serve(write_tiny_bundle(tmp_path / "toy"), *options)
    assert code == 0
    service.ready_for({}).submit([1, 2], SamplingParams())
    wait_for(lambda: engine.log)
    later = time.monotonic() + 100
    monkeypatch.setattr("moedge.runtime.scheduler.time", SimpleNamespace(monotonic=lambda: later))
    assert create_app(service, Guard()).test_client().get("/livez").status_code == status
    engine.gate.set()


@pytest.mark.parametrize(
    ("options", "wishes"),
    [
        ([], Wishes()),
        (["--reasoning-effort", "none"], Wishes("none")),
        (["--chat-template-kwargs", '{"thinking": false}'], Wishes(variables={"thinking": False})),
    ],
)
def test_what_every_chat_shall_wish_reaches_the_service(serve, tmp_path, options, wishes):
    code, service = serve(write_tiny_bundle(tmp_path / "toy", template="{{ thinking }}"), *options)
    assert code == 0
    assert service.loaded.wishes == wishes


@pytest.mark.parametrize(
    ("variables", "message"), [('{"x": 1}', "reads no variable 'x', its variables are: thinking."), ("{", "not JSON")]
)
def test_a_variable_that_the_template_does_not_read_is_told_at_the_start(tmp_path, variables, message):
    bundle = write_tiny_bundle(tmp_path / "toy", template="{{ thinking }}")
    command = [sys.executable, "-m", "moedge.runtime", "serve", str(bundle), "--port", "0"]
    command += ["--chat-template-kwargs", variables]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--api-key", "short"]])
def test_the_verb_refuses_what_is_not_safe(options, tmp_path):
    bundle = write_tiny_bundle(tmp_path / "toy")
    command = [sys.executable, "-m", "moedge.runtime", "serve", str(bundle), "--port", "0", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "MOEDGE_API_KEY" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_verb_tells_a_broken_bundle_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "moedge.runtime", "serve", str(tmp_path), "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "not a bundle" in result.stderr
    assert "Traceback" not in result.stderr
