"""What becomes of a changed definition: registered at once, or filled beside what is live.

Takes a plan that was compiled with types and the registry. New views, additive changes and metadata are registered as they
are. A breaking change of something that is live waits: runs go on with the registered step until ``fstore apply`` stages the
new one, together with everything that reads it, in overlay ``next``. In a development environment nothing of production
changes: what differs is staged in the environment's own overlay. Computes no features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from fstore.backends import Backends
from fstore.definitions.feature_view import PythonFunction
from fstore.errors import DefinitionChanged, DefinitionError, DefinitionErrors
from fstore.plan.diff import ChangedView, compare_steps
from fstore.plan.steps import Plan, PlannedService, PythonStep, Step
from fstore.registry.overlay_records import StagedView
from fstore.registry.overlays import NEXT
from fstore.registry.records import RegisteredView
from fstore.registry.registry import Registry

Notice = Callable[[str], None]
"""Told, in a sentence, what a run does otherwise than the definitions say."""

_TRIES = 5
"""How often applying starts again because definitions changed meanwhile."""


class BeingFilled(DefinitionErrors):
    """A view that cannot run as registered, and whose new definition is being filled in overlay ``next``."""


class HeldStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that has to wait, and the registered one that runs until then (None: the view is new).

    ``change`` is None when the view itself did not change, but something that it reads did.
    """

    step: Step
    registered: Step | None
    change: ChangedView | None
    upstream: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps are registered as they are, those of them that begin anew as nothing is published, and which wait."""

    accepted: tuple[Step, ...]
    begun_anew: tuple[str, ...]
    held: tuple[HeldStep, ...]


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a plan came to: the version, the views that are filled beside the live ones, and what left."""

    version: int
    staged: tuple[StagedView, ...] = ()
    retired: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    deferred_services: tuple[str, ...] = ()


def decide_changes(
    registry: Registry, steps: Sequence[Step], *, applying: bool, renewed: Collection[str] = (),
    live: Mapping[str, RegisteredView] | None = None,
) -> Decision:  # fmt: skip
    """Say of each step (in dependency order) whether it is registered or waits.

    A step waits when what is published would mean something else, or when it reads a view that waits. Unless ``applying``,
    it also waits when a column would vanish, because somebody may read it. ``renewed`` are views to be filled anew.
    """
    known = {view.name: view for view in registry.views()} if live is None else live
    accepted: list[Step] = []
    begun_anew: list[str] = []
    held: dict[str, HeldStep] = {}
    for step in steps:
        before = known.get(step.view)
        change = None if before is None else compare_steps(before.step, step)
        upstream = tuple(name for name in dict.fromkeys(step.upstream) if name in held)
        renews = step.view in renewed or (change is not None and change.renews)
        if upstream and (before is not None or applying):
            held[step.view] = HeldStep(
                step=step, registered=before.step if before else None, change=change, upstream=upstream
            )
        elif renews or (change is not None and change.kind == "breaking" and not applying):
            if registry.ledger.newest(step.view) is None:
                accepted.append(step)
                begun_anew += [step.view] if renews else []
            else:
                held[step.view] = HeldStep(step=step, registered=before.step if before else None, change=change)
        elif upstream:
            held[step.view] = HeldStep(step=step, registered=None, change=None, upstream=upstream)
        else:
            accepted.append(step)
            begun_anew += [step.view] if before is None and _came_back_different(registry, step) else []
    return Decision(accepted=tuple(accepted), begun_anew=tuple(begun_anew), held=tuple(held.values()))


def _came_back_different(registry: Registry, step: Step) -> bool:
    """Whether a view that was taken out of the definitions comes back with another meaning."""
    former = registry.last_step(step.view)
    change = None if former is None else compare_steps(former, step)
    return change is not None and change.renews


def register_steps(backends: Backends, plan: Plan, views: Sequence[str], notice: Notice | None = None) -> list[Step]:
    """Register what a plan brings, and return the steps to run for some of its views, in the order given.

    For a view whose new definition waits that is the registered step. Raises DefinitionErrors when there is none that could
    run: the view is new, or it is Python code that is not there any more.
    """
    registry = backends.registry
    if registry.overlay and registry.overlay != NEXT:
        return stage_environment(registry, plan, views)
    if backends.settings.breaking_changes == "run":
        _apply_by_itself(backends, plan, decide_changes(registry, plan.steps, applying=False))
    decision = _register_accepted(registry, plan)
    steps = {step.view: step for step in decision.accepted}
    held = {item.step.view: item for item in decision.held if item.step.view in views}
    if not held:
        return [steps[view] for view in views]
    overlay = registry.overlays.get(NEXT)
    staged = {} if overlay is None else {view.name: view for view in overlay.views}
    for view, item in held.items():
        steps[view] = _runnable(item, staged.get(view))
        if notice:
            notice(waiting_notice(registry, item, staged.get(view)))
    return [steps[view] for view in views]


def _register_accepted(registry: Registry, plan: Plan) -> Decision:
    """Decide on the steps of a plan and register those that need not wait, as of one version of the definitions."""
    for _ in range(_TRIES):
        version = registry.on_overlay("").version()
        decision = decide_changes(registry, plan.steps, applying=False)
        services = _available(registry, plan.services, decision.accepted)
        accepted = msgspec.structs.replace(plan, steps=decision.accepted, services=services)
        try:
            registry.register(accepted, rebuild=decision.begun_anew, expected=version)
        except DefinitionChanged:  # applied, flipped or rolled back meanwhile: what is accepted may have to wait now
            continue
        return decision
    raise DefinitionChanged("definitions are being changed by others again and again: try again")


def waiting_notice(registry: Registry, item: HeldStep, staged: RegisteredView | None) -> str:
    """Say why a run goes on with a registered definition, and what ends that."""
    view = item.step.view
    why = "; ".join(item.change.reasons) if item.change is not None and item.change.kind == "breaking" else ""
    why = why or f"it reads {', '.join(item.upstream)}, whose change waits"
    lacking = registry.overlays.lacking(views=[view]).get(view)
    if staged is None or lacking is None or staged.fingerprint != item.step.fingerprint:
        return (
            f"{view}: its definition changed ({why}), which waits for `fstore apply`. Until then it runs as registered: "
            "`fstore plan` shows what applying means."
        )
    done = lacking.required - len(lacking.intervals)
    return (
        f"{view}: its new definition ({why}) is being filled beside the live one, as generation {staged.generation}: "
        f"{done:,} of {lacking.required:,} intervals. Until it takes its place, the view runs as it was."
    )


def _runnable(item: HeldStep, staged: RegisteredView | None) -> Step:
    """Return the registered step of a view whose new definition waits. Raises DefinitionErrors when it cannot run.

    That is :class:`BeingFilled` when the new definition is on its way.
    """
    step, registered = item.step, item.registered
    filling = staged is not None and staged.fingerprint == step.fingerprint
    refusal = BeingFilled if filling else DefinitionErrors
    if registered is None:
        waits = "is being filled" if filling else "waits for `fstore apply`"
        fix = "It is filled" if filling else "Run `fstore apply`; it is filled"
        raise refusal([_refused(
            step, f"is new and reads {', '.join(item.upstream)}, whose changed definition {waits}.",
            f"{fix} together with what it reads.",
        )])  # fmt: skip
    if not isinstance(registered, PythonStep):
        return registered
    if isinstance(step, PythonStep) and _is_same_code(registered.function, step.function):
        return msgspec.structs.replace(registered, function=step.function)  # the code may have moved
    wait = "It is being filled" if filling else "Run `fstore apply`"
    raise refusal([_refused(
        step, "has new Python code, and what it has published was made by code that is not there any more, so it cannot go "
        "on as registered.", f"{wait}: the new code fills a new generation, which then takes the place of the live one.",
    )])  # fmt: skip


def _is_same_code(old: PythonFunction, new: PythonFunction) -> bool:
    """Whether two functions do the same, wherever they stand."""
    return msgspec.structs.replace(old, module=new.module, name=new.name) == new


def _refused(step: Step, problem: str, fix: str) -> DefinitionError:
    return DefinitionError(problem, subject=f"feature view {step.view!r}", file=step.module, line=step.line, fix=fix)


def _apply_by_itself(backends: Backends, plan: Plan, decision: Decision) -> None:
    """Stage breaking changes without being asked to, unless the same was rolled back before."""
    registry = backends.registry
    if all(item.registered is None for item in decision.held):
        return
    undone = {(flip.view, flip.fingerprint) for flip in registry.overlays.flips() if flip.rolled_back_at is not None}
    if any((item.step.view, item.step.fingerprint) in undone for item in decision.held):
        return
    overlay = registry.overlays.get(NEXT)
    waiting = {view.name: view.step for view in overlay.views} if overlay else {}
    ours = {step.view: step for step in plan.steps}
    apply_plan(backends, plan, others=[step for view, step in waiting.items() if view not in ours])


# -- applying ---------------------------------------------------------------------------------------------------------


def apply_plan(
    backends: Backends, plan: Plan, *, held: bool = False, renewed: Collection[str] = (), complete: bool = False,
    others: Sequence[Step] = (),
) -> Applied:  # fmt: skip
    """Record a plan: what can be registered at once is, the rest is staged in overlay ``next``.

    A ``complete`` plan retires what it leaves out. ``others`` are staged steps to be kept beside those of the plan.
    """
    registry = backends.registry.on_overlay("")
    for _ in range(_TRIES):
        version = registry.version()
        live = {view.name: view for view in registry.views()}
        decision = decide_changes(registry, plan.steps, applying=True, renewed=renewed, live=live)
        decision = _promoted(registry, decision, live)
        available = _available(registry, plan.services, decision.accepted)
        deferred = [service for service in plan.services if service not in available]
        try:
            registered = registry.register(
                msgspec.structs.replace(plan, steps=decision.accepted, services=available),
                rebuild=decision.begun_anew, expected=version,
            )  # fmt: skip
            steps = [*others, *(item.step for item in decision.held)]
            staged = registry.overlays.stage(
                NEXT, steps, services=deferred, held=held, renewed=renewed, expected=registered.version
            )
        except DefinitionChanged:
            continue
        retired, kept = _retire_removed(registry, plan) if complete else ([], [])
        return Applied(
            version=registry.version(), staged=tuple(staged), retired=tuple(retired), kept=tuple(kept),
            deferred_services=tuple(service.name for service in deferred),
        )  # fmt: skip
    raise DefinitionChanged("definitions are being applied by others again and again: try again")


def _promoted(registry: Registry, decision: Decision, live: Mapping[str, RegisteredView]) -> Decision:
    """Stage additive changes as well where an environment has filled them already, to the last interval that is live."""
    accepted: list[Step] = []
    held = list(decision.held)
    for step in decision.accepted:
        before = live.get(step.view)
        change = None if before is None else compare_steps(before.step, step)
        additive = change is not None and change.kind == "additive"
        if additive and (filled := registry.overlays.adoptable(step)) is not None and not filled.intervals:
            held.append(HeldStep(step=step, registered=before.step if before else None, change=change))
        else:
            accepted.append(step)
    return msgspec.structs.replace(decision, accepted=tuple(accepted), held=tuple(held))


def _available(
    registry: Registry, services: Sequence[PlannedService], accepted: Sequence[Step]
) -> tuple[PlannedService, ...]:
    """Return the services whose features all exist in what is live, once some steps are accepted."""
    features = {view.name: {feature.name for feature in view.step.features} for view in registry.views()}
    features.update((step.view, {feature.name for feature in step.features}) for step in accepted)
    return tuple(service for service in services if _readable(service, features))


def _readable(service: PlannedService, features: Mapping[str, Collection[str]]) -> bool:
    for reference in service.features:
        view, _, name = reference.partition(":")
        if view != "on_demand" and name not in features.get(view, ()):
            return False
    return True


def _retire_removed(registry: Registry, plan: Plan) -> tuple[list[str], list[str]]:
    """Retire views and services that the definitions no longer have; return them, and views that live ones still read."""
    services = {service.name for service in plan.services}
    views = {step.view for step in plan.steps}
    gone_services = [service.name for service in registry.services() if service.name not in services]
    for name in gone_services:
        registry.retire_service(name)
    on_demand = {item.name for item in plan.on_demand}
    gone_on_demand = [item.name for item in registry.on_demand_features() if item.name not in on_demand]
    for name in gone_on_demand:
        registry.retire_on_demand(name)
    live = registry.views()
    waiting = {view.name for overlay in [registry.overlays.get(NEXT)] if overlay for view in overlay.views}
    needed = {name for view in live if view.name in waiting for name in view.step.upstream}
    gone = [view.name for view in live if view.name not in views]
    kept = [name for name in gone if name in needed]
    retired = [name for name in gone if name not in needed]
    for name in retired:
        registry.retire(name)
    return [*retired, *gone_services, *gone_on_demand], kept


# -- development environments -----------------------------------------------------------------------------------------


def stage_environment(registry: Registry, plan: Plan, views: Sequence[str]) -> list[Step]:
    """Stage what differs from production in the environment that a registry is opened on; return the steps of some views.

    Those of views that do not differ are production's: their rows are read, and nothing is computed for them.
    """
    live = {view.name: view for view in registry.on_overlay("").views()}
    overlay = registry.overlays.get(registry.overlay)
    own = {step.view: step for step in plan.steps if _differs(live.get(step.view), step)}
    services = {service.name: service for service in (overlay.services if overlay else ())}
    services.update((service.name, service) for service in plan.services)
    known = {service.name: service for service in registry.on_overlay("").services()}
    changed = [service for name, service in sorted(services.items()) if known.get(name) != service]
    live_on_demand = {item.name: item for item in registry.on_overlay("").on_demand_features()}
    wanted = {item.name: item for item in [*registry.on_demand_features(), *plan.on_demand]}
    on_demand = [item for name, item in sorted(wanted.items()) if live_on_demand.get(name) != item]
    planned = {step.view for step in plan.steps}
    registry.overlays.stage(registry.overlay, list(own.values()), services=changed, on_demand=on_demand, among=planned)
    return [own[view] if view in own else live[view].step for view in views]


def _differs(live: RegisteredView | None, step: Step) -> bool:
    """Whether an environment needs rows of its own for a step."""
    change = None if live is None else compare_steps(live.step, step)
    return live is None or (change is not None and change.kind != "metadata")


def is_borrowed(registry: Registry, view: str) -> bool:
    """Whether an environment reads a view's rows from production and publishes none of its own."""
    overlay = registry.overlays.get(registry.overlay) if registry.overlay else None
    return bool(registry.overlay) and (overlay is None or all(staged.name != view for staged in overlay.views))
