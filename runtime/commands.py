"""The verbs of this stage: `inspect`, `verify` and `run`. They parse and print; the work is done by what they import.

Imports stand inside the functions, so that one verb does not pay for what another needs.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from moedge.runtime.chat.wishes import Effort, Wishes, read_wishes

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder, as `moedge export` made it.")]
ReasoningEffortOption = Annotated[
    Effort | None, typer.Option(help="How much to think, said in the words of the model's template if it has any.")
]
TemplateVariablesOption = Annotated[
    str | None,
    typer.Option("--chat-template-kwargs", help='JSON for the template\'s variables: {"enable_thinking": false}.'),
]
PromptLookupOption = Annotated[
    int,
    typer.Option(min=0, max=14, help="Guess up to so many tokens from the text so far, where that pays; 0 is never."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", "--profile", help="A device's profile, by name or path, or auto for this machine.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle holds: model, bits a tensor group, sizes on disk and in memory."""
    import json

    from moedge.runtime.bundle_report import describe, description_lines
    from moedge.runtime.manifest import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        typer.echo(json.dumps(describe(manifest), indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join(description_lines(manifest)))


def verify(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Check every file of a bundle against its manifest; exit 1 and list all problems if it is not intact."""
    import json

    from moedge.runtime.integrity import check_bundle
    from moedge.runtime.progress import bytes_progress

    with bytes_progress("verify") as on_hashed:
        problems = check_bundle(bundle, on_hashed)
    if as_json:
        typer.echo(json.dumps({"bundle": str(bundle), "intact": not problems, "problems": problems}, indent=1))
    else:
        typer.echo("\n".join(problems) or f"{bundle} is intact: every file is as its manifest says.")
    if problems:
        raise typer.Exit(1)


def run(
    bundle: BundleArgument,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to say; `-` reads it from stdin. Without it: a chat.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="End an answer after this many tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; default: the bundle's.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens; 0 is off.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest tokens that hold this mass.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Drop tokens below this share of the likeliest.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="No chat template: continue the prompt as it is.")] = False,
    system: Annotated[str | None, typer.Option(help="The system message of the chat.")] = None,
    tools: Annotated[Path | None, typer.Option(help="A JSON file with tools that the model may call.")] = None,
    reasoning_effort: ReasoningEffortOption = None,
    chat_template_kwargs: TemplateVariablesOption = None,
    prompt_lookup_num_tokens: PromptLookupOption = 0,
    device: DeviceOption = "auto",
    allow_slow: Annotated[bool, typer.Option("--allow-slow", help="Run even without a fast expert kernel.")] = False,
    allow_low_memory: Annotated[
        bool, typer.Option("--allow-low-memory", help="Run though memory may not hold the model and a full context.")
    ] = False,
    check_hashes: Annotated[bool, typer.Option(help="Check the bundle's sha256 sums before loading it.")] = True,
) -> None:
    """Answer one prompt, or chat in the terminal."""
    import sys
    from contextlib import nullcontext

    from moedge.devices.errors import MoedgeError
    from moedge.runtime.integrity import HashCheck, open_bundle
    from moedge.runtime.progress import bytes_progress

    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    if prompt is None and (raw or not sys.stdout.isatty()):
        raise MoedgeError("There is no prompt, and a chat needs a terminal and a template: give a PROMPT.")
    wishes = read_wishes(reasoning_effort, chat_template_kwargs)
    if raw and (system is not None or tools is not None or wishes != Wishes()):
        raise MoedgeError(
            "--system, --tools, --reasoning-effort and --chat-template-kwargs are for a chat template, which --raw "
            "leaves out: drop one of them."
        )
    manifest = open_bundle(bundle, check_hashes=False)
    # hashes are checked beside all that follows, from importing it to a prompt's first token
    with (
        bytes_progress("check") as on_hashed,
        HashCheck(bundle, manifest, on_hashed) if check_hashes else nullcontext() as hashes,
    ):
        from dataclasses import replace

        from moedge.runtime.chat.formats import calls_tools
        from moedge.runtime.conversation import Answer, Conversation
        from moedge.runtime.engine import Engine
        from moedge.runtime.terminal import Screen, chat, print_answer, print_text, read_tools

        screen = Screen()
        offered = None if tools is None else read_tools(tools)
        engine = Engine.load(
            bundle,
            device,
            allow_slow=allow_slow,
            allow_low_memory=allow_low_memory,
            check_hashes=check_hashes,
            hashes=hashes,
        )
        if offered and not calls_tools(engine.manifest.model.chat_format):
            raise MoedgeError(f"{engine.manifest.name} has no format for tool calls: leave out --tools.")
        variables = engine.template_variables(wishes)
        given: dict[str, Any] = {
            "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
            "seed": seed, "stop": tuple(stop) if stop else None, "prompt_lookup_num_tokens": prompt_lookup_num_tokens,
        }  # fmt: skip
        params = replace(engine.defaults, **{name: value for name, value in given.items() if value is not None})
        if prompt is None:
            engine.prove()
            chat(Conversation(engine, params, system, offered, variables), screen)
            return
        if raw:
            ids = engine.encode(prompt, allow_special=True)
            finished = print_text(Answer(engine, engine.session(), ids, params), screen)
        else:
            conversation = Conversation(engine, params, system, offered, variables)
            conversation.say(prompt)
            finished = print_answer(conversation, screen)
        if not finished:
            raise typer.Exit(130)
