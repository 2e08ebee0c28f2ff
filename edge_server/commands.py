"""The verb `serve`: its options. What they start is startup.py, imported on use so that --help stays quick.

Each option is an environment variable too, and a key of the --config file: the command line finds out which of them
speaks, and configuration.py what stands in the file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from moedge.edge_server.configuration.configuration import configure
from moedge.runtime.chat.wishes import Effort

ENVIRONMENT = "MOEDGE"  # before every option's name
BUNDLES = f"{ENVIRONMENT}_BUNDLES"


def _configure(context: typer.Context, path: Path | None) -> Path | None:
    return configure(context, path, get_type_hints(serve, include_extras=True))


def option(panel: str, *words: str, help: str, **more: Any) -> Any:
    """An option of `serve` under a heading of its help page, which says once how the environment names them all."""
    return typer.Option(*words, help=help, rich_help_panel=panel, show_envvar=False, **more)


MODELS, MEMORY, ANSWERS = "Models", "Memory", "Answers"
ACCESS, LOAD, PROCESS = "Who is let in", "Requests at once", "The process"


def serve(
    context: typer.Context,
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="BUNDLE",
            envvar=BUNDLES,
            show_envvar=False,
            show_default=False,
            help="Bundle folders, as `moedge export` made them; the first is the default.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        option(MODELS, metavar="FILE", is_eager=True, callback=_configure, help="TOML with options and [[models]]."),
    ] = None,
    served_name: Annotated[
        list[str] | None, option(MODELS, help="What clients call the model, once a bundle; default: its own name.")
    ] = None,
    alias: Annotated[
        list[str] | None, option(MODELS, metavar="NAME=MODEL", help="Another name for a model; repeatable.")
    ] = None,
    device: Annotated[
        str, option(MODELS, "--device", "--profile", help="A device's profile, by name or path, or auto.")
    ] = "auto",
    check_hashes: Annotated[bool, option(MODELS, help="Check a bundle's sha256 sums when it is loaded.")] = True,
    allow_slow: Annotated[
        bool, option(MODELS, "--allow-slow", help="Serve though no fast kernel fits this machine.")
    ] = False,
    preload: Annotated[
        Literal["first", "all", "none"], option(MEMORY, help="What to load at once; others are when asked for.")
    ] = "first",
    load_wait_s: Annotated[
        float, option(MEMORY, min=0, help="How long a request waits for its model to be loaded; then 503.")
    ] = 60,
    unload_after_s: Annotated[
        float, option(MEMORY, min=0, help="Unload what nobody asked for that long; 0: only to make room.")
    ] = 0,
    allow_low_memory: Annotated[
        bool,
        option(MEMORY, "--allow-low-memory", help="Serve though memory may not hold a model and its full contexts."),
    ] = False,
    prefix_cache_mib: Annotated[
        int | None,
        option(
            MEMORY, min=0, help="Memory for beginnings of prompts, per model; 0: none; default: some of what is spare."
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None, option(MEMORY, help="Keep beginnings of prompts here too, from one start to the next.")
    ] = None,
    cache_dir_mib: Annotated[
        int | None, option(MEMORY, min=0, help="How much to keep there, of all models; default: some of what is free.")
    ] = None,
    host: Annotated[
        str, option(ACCESS, help="Address to listen on; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, option(ACCESS, min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    api_key: Annotated[
        list[str] | None,
        option(ACCESS, help="Key that clients must send; repeatable, best set as MOEDGE_API_KEY."),
    ] = None,
    api_key_file: Annotated[Path | None, option(ACCESS, metavar="FILE", help="More such keys, one a line.")] = None,
    allow_host: Annotated[
        list[str] | None, option(ACCESS, help="Another name that clients call this machine; repeatable.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, option(ACCESS, help="Let pages of this origin ask, as https://chat.example; repeatable.")
    ] = None,
    max_running: Annotated[
        int | None,
        option(
            LOAD,
            min=1,
            max=64,
            help="Requests that are answered at once, per model; default: 4 in the native plan, "
            "2 in others, fewer where memory is short.",
        ),
    ] = None,
    max_queued: Annotated[
        int, option(LOAD, min=0, max=1024, help="Requests that may wait, per model; more get 429.")
    ] = 16,
    stalled_after_s: Annotated[
        float, option(LOAD, min=0, help="Seconds in one step of a model until /livez calls it hung; 0 is never.")
    ] = 600,
    reasoning_effort: Annotated[
        Effort | None,
        option(ANSWERS, help="How much to think, in the words of the model's template if it has any."),
    ] = None,
    chat_template_kwargs: Annotated[
        str | None, option(ANSWERS, help='JSON for the template\'s variables: {"enable_thinking": false}.')
    ] = None,
    prompt_lookup_num_tokens: Annotated[
        int,
        option(ANSWERS, min=0, max=14, help="Guess up to so many tokens from the text so far, where that pays."),
    ] = 0,
    drain_seconds: Annotated[float, option(PROCESS, min=0, help="How long answers may go on after SIGTERM.")] = 60,
    log_format: Annotated[
        Literal["text", "json"], option(PROCESS, help="Lines of the log for people, or for programs.")
    ] = "text",
    print_config: Annotated[
        bool, option(PROCESS, "--print-config", help="Print all options as a --config file, and end.")
    ] = False,
) -> None:
    """Serve bundles over HTTP, in the manner of OpenAI's and Anthropic's APIs.

    Every option is also an environment variable (MOEDGE_MAX_RUNNING; several values stand with blanks between them, in
    MOEDGE_BUNDLES with colons), and a key of the --config file (max_running). A flag comes before the environment, the
    environment before the file.
    """
    from moedge.edge_server.configuration.model_choices import model_choices, warn_of_unknown_variables

    warn_of_unknown_variables(context, ENVIRONMENT)
    choices = model_choices(context)
    if print_config:
        from moedge.edge_server.configuration.printed_configuration import configuration_lines

        typer.echo("\n".join(configuration_lines(context, choices)))
        return
    from moedge.edge_server.startup import Settings, run

    settings = Settings(
        host=host,
        port=port,
        api_keys=tuple(api_key or ()),
        api_key_file=api_key_file,
        allow_host=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        preload=preload,
        load_wait_s=load_wait_s,
        unload_after_s=unload_after_s,
        drain_seconds=drain_seconds,
        log_format=log_format,
    )
    run(choices, tuple(alias or ()), settings)
