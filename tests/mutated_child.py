"""A program that tries mutations of one file of a bundle, each a line of its output; limits are its own.

Arguments: the bundle (a copy of this process's own), the file, the first seed, the number of seeds, seconds a try.
It says a seed before it tries it, and after it what came: `served`, or `refused` with the sentence, or `raised` with
what no user should see. A signal ends it, and whoever reads knows at which seed.
"""

import faulthandler
import os
import resource
import signal
import sys
import time
from pathlib import Path

from bundle_mutations import mutate, seal

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import detect_memory
from moedge.devices.profile import load_profile
from moedge.runtime.chat.template import ChatTemplate, read_template
from moedge.runtime.engine import Engine
from moedge.runtime.generation_config import default_params, eos_of, read_generation_config
from moedge.runtime.integrity import open_bundle
from moedge.runtime.manifest import GENERATION_NAME, MANIFEST_NAME, TEMPLATE_NAME, TOKENIZER_NAME
from moedge.runtime.memory_need import check_memory
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.text import Tokenizer

MOST_MEMORY = 6 << 30  # address space, of which libraries take most
CHAT = [{"role": "user", "content": "turn on <|im_end|> the light"}, {"role": "assistant", "content": "yes"}]
TEXT = "Hello wörld, 日本 <|user|> 12345"


class Hung(BaseException):
    """It took longer than it may."""


def _alarm(number: int, frame: object) -> None:
    raise Hung


def attempt(bundle: Path, name: str) -> None:
    """What the runtime does with a file of that name, no more, so that thousands can be tried."""
    if name == TOKENIZER_NAME:
        tokenizer = Tokenizer.from_file(bundle / name)
        ids = tokenizer.encode(TEXT, allow_special=True, add_special_tokens=True)[:200]
        tokenizer.encode(TEXT)
        tokenizer.decode(ids)
        stream = tokenizer.stream()
        for token_id in ids:
            stream.push(token_id)
        stream.flush()
    elif name == TEMPLATE_NAME:
        source = read_template(bundle / name)
        assert source is not None
        ChatTemplate(source, ("<|im_end|>", "<|user|>")).render(CHAT)
    elif name == GENERATION_NAME:
        config = read_generation_config(bundle / name)
        default_params(config)
        eos_of(config)
    elif name == MANIFEST_NAME:
        manifest = open_bundle(bundle)
        check_memory(manifest, load_profile("auto"), detect_memory(), 2)
        _answer(bundle)
    else:
        _answer(bundle)


def _answer(bundle: Path) -> None:
    """A few tokens, of a prompt in pieces."""
    engine = Engine.load(bundle, allow_slow=True)
    params = SamplingParams(temperature=0.0, max_tokens=3, top_logprobs=2)
    try:
        list(engine.generate(list(range(1, 9)), params))
    except RuntimeError as error:  # onnxruntime's, while it runs: that request fails, and the server goes on
        raise MoedgeError(str(error)) from error


def main() -> None:
    bundle, name, first, count, seconds = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _alarm)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)  # onnxruntime writes there too
    whole, manifest = (bundle / name).read_bytes(), (bundle / MANIFEST_NAME).read_bytes()
    for seed in range(first, first + count):
        (bundle / MANIFEST_NAME).write_bytes(manifest)
        (bundle / name).write_bytes(mutate(whole, name, seed))
        if name != MANIFEST_NAME:
            seal(bundle)
        print(seed, end=" ", file=out, flush=True)
        began = time.perf_counter()
        signal.alarm(seconds)
        try:
            attempt(bundle, name)
            told = "served"
        except MoedgeError as error:
            told = f"refused {error}"
        except Hung:
            told = "hung"
        except BaseException as error:
            told = f"raised {type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        print(f"{time.perf_counter() - began:.4f}", " ".join(told.split()), file=out, flush=True)


if __name__ == "__main__":
    main()
