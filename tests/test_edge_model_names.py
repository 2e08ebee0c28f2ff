"""What the models of a server are called, and how they come up: real bundles, through the verb."""

import gc
import shutil
import weakref
from pathlib import Path

import pytest
from edge_client import chat
from edge_models import PROGRAM
from serve_verb import serve_fixture
from tiny_bundle import write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.edge_server.app import create_app
from moedge.edge_server.guard import Guard
from moedge.edge_server.models.model_room import ModelRoom
from moedge.edge_server.models.model_settings import ModelChoice, ModelSettings
from moedge.edge_server.models.residents import Residents, _let_go
from moedge.edge_server.models.served_models import open_models
from moedge.runtime.memory_need import MemoryNeed

serve_verb = pytest.fixture(serve_fixture, name="serve_verb")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The same bundle twice, under one name."""
    folder = tmp_path_factory.mktemp("toys")
    return write_tiny_bundle(folder / "toy"), Path(shutil.copytree(folder / "toy", folder / "again"))


def choices(*folders, **more):
    return [ModelChoice(folder, ModelSettings(), **more) for folder in folders]


def names(models):
    return [model.names for model in models]


def test_names_are_the_bundles_own_unless_told(toys):
    first, again = toys
    assert names(open_models(choices(first))) == [("toy",)]
    assert names(open_models([*choices(first), *choices(again, name="b", aliases=("c", "d"))])) == [
        ("toy",),
        ("b", "c", "d"),
    ]


def test_an_alias_is_for_a_name_or_for_a_path(toys):
    first, again = toys
    models = [*choices(first), *choices(again, name="b")]
    assert names(open_models(models, ["x=toy", "y=b", f"z={again}", f" q = {first}/ "])) == [
        ("toy", "x", "q"),
        ("b", "y", "z"),
    ]


@pytest.mark.parametrize(
    ("more", "aliases", "told"),
    [
        ({}, [], "would both be called toy: name them apart with --served-name"),
        ({"name": "b"}, ["toy=b"], "would both be called toy"),
        ({"name": "b", "aliases": ("toy",)}, [], "would both be called toy"),
        ({"name": "b"}, ["x=c"], "the alias x is for c, which is not served: the models are toy, b."),
        ({"name": "b"}, ["x=toi"], "did you mean toy?"),
        ({"name": "b"}, ["x"], "the alias 'x' is not of the form NAME=MODEL"),
        ({"name": "b"}, ["=b"], "is not of the form NAME=MODEL"),
        ({"name": " b"}, [], "cannot be the name of a model"),
        ({"name": "b\n"}, [], "cannot be the name of a model"),
        ({"name": "b" * 257}, [], "cannot be the name of a model"),
    ],
)
def test_names_that_do_not_tell_models_apart_are_refused(toys, more, aliases, told):
    first, again = toys
    with pytest.raises(MoedgeError) as raised:
        open_models([*choices(first), *choices(again, **more)], aliases)
    assert told in str(raised.value)


def test_an_alias_for_a_name_that_two_have_is_refused(toys):
    with pytest.raises(MoedgeError, match="which two models are called"):
        open_models(choices(*toys), ["x=toy"])


def test_a_server_of_several_says_which_there_are(serve_verb, toys, capsys):
    first, again = toys
    code, service = serve_verb(first, again, "--served-name", "a", "--served-name", "b", "--alias", "x=b")
    assert code == 0
    told = capsys.readouterr().out
    assert told.startswith("a answers at http://127.0.0.1:")
    assert "\nAlso: b (once asked for)\n" in told
    assert [loaded.name for loaded in service.all_loaded] == ["a"]
    client = create_app(service, Guard()).test_client()
    assert chat(client, model="x", max_tokens=1).json["model"] == "b"
    assert [loaded.name for loaded in service.all_loaded] == ["a", "b"]


@pytest.mark.parametrize(("preload", "there"), [("first", ["a"]), ("all", ["a", "b"]), ("none", [])])
def test_what_is_loaded_at_once_is_said_by_preload(serve_verb, toys, preload, there):
    code, service = serve_verb(*toys, "--served-name", "a", "--served-name", "b", "--preload", preload)
    assert code == 0
    assert [loaded.name for loaded in service.all_loaded] == there
    service.ready()  # nothing is missing


def test_where_beginnings_of_prompts_are_kept_reaches_the_scheduler(serve_verb, toys, tmp_path):
    code, _ = serve_verb(toys[0], "--cache-dir", tmp_path / "kept", "--prefix-cache-mib", "8", "--cache-dir-mib", "16")
    assert code == 0
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize("fault", ["missing", "damaged", "weights"])
def test_a_bundle_that_is_damaged_is_named_at_the_start(serve_verb, toys, tmp_path, capsys, fault):
    first, _ = toys
    broken = tmp_path / "broken"
    if fault != "missing":
        shutil.copytree(first, broken)
        (broken / {"damaged": "tokenizer.json", "weights": "model.onnx"}[fault]).unlink()
    code, service = serve_verb(first, broken, "--served-name", "a", "--served-name", "b")
    assert (code, service) == (1, None)
    assert str(broken) in capsys.readouterr().err


def of_sizes(monkeypatch, sizes):
    def need(manifest, sessions, prefill_chunk, cache_type, prefixes=0):
        return MemoryNeed(sizes[sessions] * 10**6, 0, 0, PROGRAM, sessions, prefixes=prefixes)

    for module in ("moedge.edge_server.models.model_room", "moedge.runtime.memory_need"):
        monkeypatch.setattr(f"{module}.memory_need", need)
    return ModelRoom(Memory(1000 * 10**6 + PROGRAM, 1000 * 10**6))


def test_what_never_fits_is_refused_at_the_start(toys, monkeypatch):
    room = of_sizes(monkeypatch, {1: 1001, 2: 999})
    big, small = open_models([ModelChoice(toys[0], ModelSettings(max_running=n), f"m{n}") for n in (1, 2)])
    room.settle([big, small])
    with pytest.raises(MoedgeError, match=r"needs about 1.0 GB of memory .* and this device has 1.0 GB"):
        room.check_alone(big)
    room.check_alone(small)
    big.settings = ModelSettings(max_running=1, allow_low_memory=True)
    room.check_alone(big)


def test_what_is_to_be_loaded_at_once_must_fit_together(toys, monkeypatch):
    room = of_sizes(monkeypatch, {1: 500, 2: 501, 3: 499})
    models = {
        n: open_models([ModelChoice(toys[0], ModelSettings(max_running=n, prefix_cache_bytes=0), f"m{n}")])[0]
        for n in (1, 2, 3)
    }
    room.check_together([models[1], models[3]])
    with pytest.raises(MoedgeError, match=r"m2 needs about 502.0 MB of memory beside the others .m1 500.0 MB."):
        room.check_together([models[1], models[2]])


def test_numbers_that_nobody_said_are_chosen_by_the_memory_there_is(toys, monkeypatch):
    room = of_sizes(monkeypatch, dict.fromkeys(range(1, 5), 800))
    told, silent = open_models(
        [
            ModelChoice(toys[0], ModelSettings(max_running=3, prefix_cache_bytes=7), "a"),
            ModelChoice(toys[1], ModelSettings(max_running=0), "b"),
        ]
    )
    room.settle([told, silent])
    assert (told.settings.max_running, told.settings.prefix_cache_bytes) == (3, 7)
    assert silent.settings.max_running == 2  # of a plan whose requests take turns
    assert silent.settings.prefix_cache_bytes == 200 * 10**6 // 10 // 2


def test_nothing_of_a_model_stays_when_it_goes(toys):
    (model,) = open_models(choices(toys[0]))
    residents = Residents([model], _load, ModelRoom())
    residents.preload(model)
    engine = model.loaded.engine
    seen = [weakref.ref(each) for each in (engine, engine.program, engine.program._graph)]
    gone, model.loaded = [model.loaded], None
    del engine
    gc.disable()
    try:
        _let_go(gone)
        assert [each() for each in seen] == [None] * 3
    finally:
        gc.enable()
    residents.close()


def _load(model, on_hashed):
    from moedge.edge_server.models.loading import load_model

    return load_model(model, on_hashed)
