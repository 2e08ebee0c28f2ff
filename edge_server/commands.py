"""The verb `serve`: its options. What they start is startup.py, imported on use so that --help stays quick."""

from typing import Annotated

import typer

from moedge.runtime.chat.wishes import read_wishes
from moedge.runtime.commands import (
    BundleArgument,
    DeviceOption,
    PromptLookupOption,
    ReasoningEffortOption,
    TemplateVariablesOption,
)


def serve(
    bundle: BundleArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MOEDGE_API_KEY", help="Key that clients must send; best set as MOEDGE_API_KEY.", show_envvar=True
        ),
    ] = None,
    device: DeviceOption = "auto",
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Serve though no fast kernel fits this machine.")
    ] = False,
    allow_low_memory: Annotated[
        bool,
        typer.Option("--allow-low-memory", help="Serve though memory may not hold the model and all full contexts."),
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that clients call this machine; repeatable.")
    ] = None,
    max_running: Annotated[int, typer.Option(min=1, max=64, help="Requests that are answered at once.")] = 2,
    max_queued: Annotated[int, typer.Option(min=0, max=1024, help="Requests that may wait; more get 429.")] = 16,
    drain_seconds: Annotated[float, typer.Option(min=0, help="How long answers may go on after SIGTERM.")] = 60,
    stalled_after_s: Annotated[
        float, typer.Option(min=0, help="Seconds in one step of the model until /livez calls it hung; 0 is never.")
    ] = 600,
    reasoning_effort: ReasoningEffortOption = None,
    chat_template_kwargs: TemplateVariablesOption = None,
    prompt_lookup_num_tokens: PromptLookupOption = 0,
    check_hashes: Annotated[bool, typer.Option(help="Check the bundle's sha256 sums before loading it.")] = True,
) -> None:
    """Serve a bundle over HTTP, in the manner of OpenAI's API."""
    from moedge.edge_server.startup import Settings, run

    settings = Settings(
        host=host,
        port=port,
        api_key=api_key,
        allow_host=tuple(allow_host or ()),
        device=device,
        allow_slow=allow_slow,
        allow_low_memory=allow_low_memory,
        max_running=max_running,
        max_queued=max_queued,
        drain_seconds=drain_seconds,
        stalled_after_s=stalled_after_s,
        check_hashes=check_hashes,
        wishes=read_wishes(reasoning_effort, chat_template_kwargs),
        prompt_lookup_num_tokens=prompt_lookup_num_tokens,
    )
    run(bundle, settings)
