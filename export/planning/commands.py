"""The verb `moedge plan`: a model, a device, and what becomes of the two."""

import json
from typing import Annotated, Literal

import typer

from moedge.devices.detect import detect
from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile, load_profile
from moedge.devices.profile_file import profile_names
from moedge.export.planning.modelled import PlannedModel, memory_of, open_model
from moedge.export.planning.page import describe, device_lines, plan_lines
from moedge.runtime.device_plan import Plan, make_plan
from moedge.runtime.manifest import ExpertPlan


def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A checkpoint's folder, a bundle, a config.json, or hf://org/name, of which only config and index "
            "are fetched.",
        ),
    ],
    device: Annotated[
        str, typer.Option(help="A device's profile, by name or path; `moedge devices` lists them. auto: this machine.")
    ] = "auto",
    all_devices: Annotated[bool, typer.Option("--all-devices", help="A line for every device.")] = False,
    context: Annotated[
        int | None, typer.Option(help="Tokens of a conversation. [default: the bundle's, or the device's]")
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="How weights would be stored. [default: the device's own choice]")
    ] = None,
    experts: Annotated[
        Literal["native", "fused", "if"] | None,
        typer.Option(help="Whose kernels would run. [default: the device's own choice]"),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, max=64, help="Conversations at once.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")] = False,
) -> None:
    """Say whether a model fits a device and how fast it will answer there, before anything is fetched or exported."""
    planned = open_model(model)
    if context is not None and not 1 <= context <= planned.most_context:
        raise MoedgeError(f"--context {context} is not within 1 to {planned.most_context}, which this model has.")
    asked = _Asked(planned, context, scheme, experts, sessions)
    if all_devices:
        found = [(profile, *asked.of(profile)) for profile in _all_profiles()]
        if as_json:
            typer.echo(json.dumps([describe(made, best) for _, made, best in found], indent=1))
        else:
            typer.echo("\n".join(device_lines(found)))
        return
    profile = load_profile(device)
    made, best = asked.of(profile)
    typer.echo(json.dumps(describe(made, best), indent=1) if as_json else "\n".join(plan_lines(made, best, profile)))


class _Asked:
    """What was asked of a model, whatever the device."""

    def __init__(
        self, model: PlannedModel, context: int | None, scheme: str | None, plan: ExpertPlan | None, sessions: int
    ) -> None:
        self._model, self._context, self._scheme, self._plan, self._sessions = model, context, scheme, plan, sessions

    def of(self, profile: Profile) -> tuple[Plan, str | None]:
        """The plan for a device, and the most faithful scheme that fits it at that context; None if none does."""
        only = self._model.schemes[0] if len(self._model.schemes) == 1 else None
        if only is not None and self._scheme not in (None, only):
            raise MoedgeError(f"--scheme {self._scheme}: the bundle has {only}; give its checkpoint to plan another.")
        made = self._make(profile, only or self._scheme or profile.scheme)
        return made, self._best(profile)

    def _make(self, profile: Profile, scheme: str) -> Plan:
        context = min(self._context or profile.context, self._model.most_context)
        manifest = self._model.manifest(scheme, self._plan or profile.expert_plan, context)
        if self._context is None and len(self._model.schemes) == 1:
            context = manifest.model.context_length
        memory_of(manifest)
        made = make_plan(manifest, profile, context, self._sessions, self._model.most_context)
        if made is None:
            raise AssertionError("what memory the weights take is known, and what a token reads is not")
        return made

    def _best(self, profile: Profile) -> str | None:
        for scheme in self._model.schemes:
            try:
                if self._make(profile, scheme).fits:
                    return scheme
            except MoedgeError:  # a scheme that does not fit the model's shapes
                continue
        return None


def _all_profiles() -> list[Profile]:
    """All that can be told from here; a generic one needs a machine of its kind."""
    machine, found = detect(), list[Profile]()
    for name in ("auto", *profile_names()):
        try:
            found.append(load_profile(name, machine))
        except MoedgeError:
            if name in ("auto", "generic-aarch64", "generic-x86-64"):
                continue
            raise
    return found
