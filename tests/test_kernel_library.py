"""The kernel library is opened, or one sentence says what is wrong with it and what to do."""

import threading

import onnxruntime
import pytest
from tiny_kernels import make_tiny_library

from moedge.devices.errors import MoedgeError
from moedge.runtime.kernels import library
from moedge.runtime.kernels.library import find_library, open_library


def refusal(path=None) -> str:
    with pytest.raises(MoedgeError) as refused:
        open_library(path)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_library_that_fits_is_opened(tmp_path):
    path = make_tiny_library(tmp_path)
    opened = open_library(path)
    assert (opened.path, opened.isa) == (path, "scalar")


def test_without_a_path_it_is_the_one_beside_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert find_library() is None
    path = make_tiny_library(tmp_path).rename(tmp_path / library.NAME)
    assert find_library() == path
    assert open_library().path == path


def test_one_that_was_not_built_is_told_with_all_that_helps(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert refusal() == (
        "moedge's kernels are not built: install a C++ compiler and moedge again, take a wheel of moedge for this "
        "machine, or export for onnxruntime's own kernels, about half as fast, with `moedge export --experts fused`."
    )


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + bytes(60)])
def test_a_damaged_one_cannot_be_loaded(tmp_path, content):
    path = tmp_path / "damaged.so"
    path.write_bytes(content)
    assert "cannot be loaded" in refusal(path)


def test_one_of_another_machine_cannot_be_loaded(tmp_path):
    path = make_tiny_library(tmp_path)
    content = bytearray(path.read_bytes())
    content[18:20] = (8).to_bytes(2, "little")  # e_machine: MIPS
    path.with_name("other.so").write_bytes(content)
    assert "cannot be loaded" in refusal(path.with_name("other.so"))


def test_one_without_the_functions_cannot_be_loaded(tmp_path):
    path = make_tiny_library(tmp_path, text='extern "C" int moedge_nothing() { return 0; }')
    sentence = refusal(path)
    assert "cannot be loaded" in sentence
    assert "moedge_layout" in sentence


def test_another_layout_is_refused(tmp_path):
    assert "layout 2 and this moedge has layout 1" in refusal(make_tiny_library(tmp_path, "LAYOUT=2"))


def test_one_that_computes_wrongly_is_refused(tmp_path):
    path = make_tiny_library(tmp_path, 'WRONG="int8 blocks of 32 differ"')
    assert "wrong results on this CPU (scalar: int8 blocks of 32 differ)" in refusal(path)


def test_an_instruction_set_that_is_not_here_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MOEDGE_ISA", "avx1024")
    assert "MOEDGE_ISA=avx1024 names an instruction set" in refusal(make_tiny_library(tmp_path, 'ISA=""'))


def test_an_onnxruntime_that_refuses_it_is_named(tmp_path):
    path = make_tiny_library(tmp_path, 'STATUS=base->api(1)->make_status(1, "its interface\\n is another")')
    sentence = refusal(path)
    assert f"onnxruntime {onnxruntime.__version__} does not take moedge's kernels" in sentence
    assert "its interface is another" in sentence


def test_usage_is_counted_by_owner_and_layer(tmp_path):
    opened = open_library(make_tiny_library(tmp_path))
    assert opened.usage(7, 3, 4).tolist() == [(7 << 32) + expert for expert in range(4)]
    with pytest.raises(LookupError, match="no experts in layer 2 of owner 7"):
        opened.usage(7, 2, 4)
    with pytest.raises(LookupError, match="4 experts in layer 3 of owner 7, 5 expected"):
        opened.usage(7, 3, 5)


def test_what_a_thread_makes_is_owned_while_it_says_so(tmp_path):
    opened = open_library(make_tiny_library(tmp_path))
    owner = (1 << 24) - 1  # more than a byte, so that it must pass whole
    elsewhere = []
    with pytest.raises(KeyError), opened.owned(owner):
        assert opened.usage(0, 3, 4)[0] == owner << 8
        thread = threading.Thread(target=lambda: elsewhere.append(opened.usage(0, 3, 4)[0]))
        thread.start()
        thread.join()
        raise KeyError
    assert elsewhere == [0]
    assert opened.usage(0, 3, 4)[0] == 0


def test_threads_are_lent_while_it_says_so(tmp_path):
    opened = open_library(make_tiny_library(tmp_path))
    elsewhere = []
    with pytest.raises(KeyError), opened.lent(3, 1_000_000):
        assert opened.usage(0, 4, 2).tolist() == [3, 1_000_000]
        thread = threading.Thread(target=lambda: elsewhere.append(opened.usage(0, 4, 2).tolist()))
        thread.start()
        thread.join()
        raise KeyError
    assert elsewhere == [[0, 0]]
    assert opened.usage(0, 4, 2).tolist() == [0, 0]
