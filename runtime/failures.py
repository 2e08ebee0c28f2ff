"""Everything that can go wrong in a verb, turned into one sentence on stderr and an exit code.

1 for a mistake in the input or a failure, 2 for a mistake in the command line, 130 for Ctrl-C. It knows the exceptions,
not the verbs.
"""

import errno
import os
import sys
import traceback

import typer

from moedge.devices.errors import MoedgeError

# Packages that an extra brings, by the name they are imported under.
EXTRA_OF = {
    "huggingface_hub": "export",
    "ml_dtypes": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "safetensors": "export",
    "sentencepiece": "export",
    "google": "export",
    "optimum": "optimum",
}


def report(error: BaseException, verb: str, debug: bool) -> int:
    """Print what ended `moedge VERB` as one sentence on stderr, after its traceback if `debug`; exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        _close_stdout()
        return 1
    if debug:
        traceback.print_exception(error)
    typer.echo(f"moedge: {' '.join(sentence(error, verb).split())}", err=True)
    return error.exit_code if isinstance(error, typer.TyperException) else 1


def sentence(error: BaseException, verb: str) -> str:
    """What is wrong and what to do, for people."""
    match error:
        case MoedgeError():
            return str(error)
        case typer.TyperException():
            return _usage(error)
        case typer.Abort():
            return "stopped."
        case ModuleNotFoundError():
            return _missing_package(error, verb)
        case MemoryError():
            return f"`moedge {verb}` ran out of memory: close other programs, or take a smaller model or scheme."
        case OSError():
            return _system(error, verb)
    kind = type(error).__name__
    return f"`moedge {verb}` failed with an internal error ({kind}: {error}): run it with --debug and report it."


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "moedge"
    message = error.message if getattr(error, "possibilities", None) else error.format_message()
    close = " or ".join(getattr(error, "possibilities", None) or ())
    message = f"{message.rstrip('.')}. Did you mean {close}?" if close else message
    end = "" if message.endswith(("?", ".")) else "."
    return f"{message}{end} See `{path} --help`."


def _missing_package(error: ModuleNotFoundError, verb: str) -> str:
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(package)
    if extra:
        return f"`moedge {verb}` needs the {extra} extra: pip install 'moedge[{extra}]'"
    return f"`moedge {verb}` needs the Python module {error.name}, which is not installed: install moedge again."


def _system(error: OSError, verb: str) -> str:
    names = [os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    where = " -> ".join(os.fsdecode(name) for name in names)
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" while writing {where}" if where else ""
        return f"the disk is full ({reason}){place}: free some space and run `moedge {verb}` again."
    if error.errno == errno.EADDRINUSE:
        return f"{reason}{f': {where}' if where else ''}: another program listens there, choose another --port."
    return f"`moedge {verb}` failed: {reason}{f': {where}' if where else ''}."


def _close_stdout() -> None:
    # The reader is gone (`moedge devices | head -1`): later flushes must not fail again at exit.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
