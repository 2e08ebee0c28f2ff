"""Kernel libraries of a few lines, each right but for one fault, which the machine's own compiler makes."""

import os
from pathlib import Path

import pytest

from moedge.runtime.kernels.build import BuildError, Compiler, compile_library, find_compiler

SOURCE = """
#include <cstdint>
#define EXPORTED extern "C" __attribute__((visibility("default")))
struct Api { void* (*make_status)(int, const char*); };
struct Base { const Api* (*api)(uint32_t); const char* (*version)(); };
#ifndef LAYOUT
#define LAYOUT 1
#endif
#ifndef ISA
#define ISA "scalar"
#endif
#ifndef WRONG
#define WRONG nullptr
#endif
#ifndef STATUS
#define STATUS nullptr
#endif
static thread_local uint64_t mine;
static thread_local int lent[2];
EXPORTED int moedge_layout() { return LAYOUT; }
EXPORTED const char* moedge_isa() { return ISA; }
EXPORTED const char* moedge_self_check() { return WRONG; }
EXPORTED void* RegisterCustomOps(void*, const Base* base) { (void)base; return STATUS; }
EXPORTED void moedge_own(uint64_t owner) { mine = owner; }
EXPORTED uint64_t moedge_read(const uint64_t* data, uint64_t bytes) { return bytes ? data[bytes / 8 - 1] : 0; }
EXPORTED int64_t moedge_choice_bytes(int64_t size) { return 8 * size; }
EXPORTED int64_t moedge_choose(const void*, const float*, const int64_t*, const int32_t*) { return 7; }
EXPORTED void moedge_lend(int threads, int awake_us) { lent[0] = threads, lent[1] = awake_us; }
EXPORTED void moedge_limit(int threads) {}
EXPORTED int64_t moedge_usage(uint64_t owner, int64_t layer, uint64_t* counts, int64_t room) {
  if (layer == 4) return counts[0] = lent[0], counts[1] = lent[1], 2;
  if (layer != 3) return -1;
  for (int64_t i = 0; i < 4 && i < room; i++) counts[i] = (owner << 32 | mine << 8) + i;
  return 4;
}
"""


def have_compiler() -> Compiler:
    """The machine's compiler; the test is skipped if there is none for it."""
    try:
        return find_compiler(os.environ)
    except BuildError as missing:
        return pytest.skip(f"{missing}, which this test compiles with")


def write_sources(folder: Path, text: str = SOURCE) -> Path:
    """The folder with one source in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.cpp").write_text(text, encoding="utf-8")
    return folder


def make_tiny_library(folder: Path, *defines: str, text: str = SOURCE) -> Path:
    """A library in the folder; `defines` are its faults, such as LAYOUT=2."""
    library = folder / "tiny.so"
    lines = [f"#define {name} {value}\n" for name, _, value in (define.partition("=") for define in defines)]
    compile_library(library, have_compiler(), sources=write_sources(folder / "sources", "".join(lines) + text))
    return library
