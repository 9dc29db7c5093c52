"""The commands about versions: apply, diff, flip, rollback and env."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.markup import escape

from fstore.backends import Backends, create_backends, open_backends
from fstore.cli.comparison import html_page, sparkline
from fstore.cli.output import console, print_json, print_table
from fstore.cli.plan import plan_changes, print_changes, registered_plan
from fstore.cli.project import compile_project
from fstore.errors import DefinitionErrors, SettingsError, UnknownFeature
from fstore.plan.steps import Plan
from fstore.registry.overlay_records import Flip
from fstore.registry.overlays import NEXT
from fstore.runtime.comparison import Comparison, Side, compare_generations
from fstore.runtime.flipping import flip_next, roll_back
from fstore.runtime.incarnation import check_incarnation
from fstore.runtime.versions import apply_plan, stage_environment
from fstore.settings import Settings, load_settings


def apply_project(*, hold: bool, renewed: Sequence[str], as_json: bool) -> None:
    """Create stores and registry where missing, and record all definitions. Raises DefinitionErrors without recording."""
    settings = load_settings()
    with create_backends(settings) as backends:
        checked = compile_project(settings, backends.engine, {})
        if checked.problems:
            raise DefinitionErrors([problem.as_error() for problem in checked.problems])
        unknown = sorted(set(renewed) - {step.view for step in checked.plan.steps})
        if unknown:
            raise UnknownFeature(f"project {settings.project!r} has no view {unknown[0]!r} to rebuild")
        check_incarnation(backends)
        backends.registry.record_source_schemas(checked.schemas)
        diff = plan_changes(registered_plan(backends) or Plan(project=settings.project), checked)
        if settings.environment:
            stage_environment(backends.registry, checked.plan, [])
            _print_environment(backends, settings.environment, as_json=as_json)
            return
        applied = apply_plan(backends, checked.plan, held=hold, renewed=renewed, complete=True)
    if as_json:
        print_json({"project": settings.project, "changes": diff, **msgspec.structs.asdict(applied)})
        return
    print_changes(diff)
    console.print(
        f"[green]✓[/] {len(checked.plan.steps)} views and {len(checked.plan.services)} services of project "
        f"[bold]{settings.project}[/] are registered (version {applied.version})."
    )
    for view in applied.staged:
        came = "which holds this definition's rows already" if view.adopted else "beside the live one"
        console.print(f"[yellow]![/] {view.view} is filled as generation {view.generation}, {came}.")
    for view_name in applied.kept:
        console.print(f"[yellow]![/] {view_name} is still read by a live view; apply again after the flip to retire it.")
    if applied.staged:
        end = "`fstore flip` then makes them live" if hold else "then they become live, all at once"
        console.print(
            f"Next: `fstore run`, or the maintenance DAG, fills the new generations; {end}. `fstore diff` compares."
        )
    else:
        console.print("Next: `fstore run` computes what is due, or start Airflow and let the DAGs do it.")


def show_diff(view: str | None, html: Path | None, *, as_json: bool) -> None:
    """Print how new generations differ from the live ones."""
    with open_backends(load_settings()) as backends:
        pairs = [(old, new) for old, new in _sides(backends) if view in (None, new.step.view)]
        if not pairs:
            if view:
                backends.registry.view(view)  # an unknown one is an error of its own
            what = f"view {view!r} has" if view else "there is"
            raise UnknownFeature(
                f"{what} no new generation to compare: a breaking change has one from `fstore apply` on, an environment "
                "(--env) of what it changes"
            )
        compared = [compare_generations(backends, old, new) for old, new in pairs]
    if html is not None:
        try:
            html.write_text(html_page(compared), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--html {html} cannot be written: {error.strerror}") from None
    if as_json:
        print_json(compared)
        return
    for comparison in compared:
        _print_comparison(comparison)
    if html is not None:
        console.print(f"[green]✓[/] {html}")


def flip_project(*, as_json: bool) -> None:
    """Make the new generations live, all at once. Raises NotComplete while intervals are lacking."""
    with open_backends(_production("flip")) as backends:
        done = flip_next(backends)
    _print_flips(done, back=False, as_json=as_json)
    if not as_json:
        console.print("`fstore rollback VIEW` (or `all`) makes the earlier ones live again.")


def rollback_project(view: str, *, as_json: bool) -> None:
    """Make live again what the latest flip of a view replaced."""
    with open_backends(_production("rollback")) as backends:
        done = roll_back(backends, None if view == "all" else view)
    _print_flips(done, back=True, as_json=as_json)
    if not as_json:
        console.print(
            "The definitions are as they were before the rollback: until they change, they wait for `fstore apply`."
        )


def list_environments(*, as_json: bool) -> None:
    """Print the development environments, with the views that they have of their own."""
    with open_backends(load_settings()) as backends:
        found = [overlay for overlay in backends.registry.overlays.all() if overlay.name != NEXT]
    if as_json:
        print_json([{"name": item.name, "views": [view.name for view in item.views], "created_at": item.created_at}
                    for item in found])  # fmt: skip
        return
    if not found:
        console.print("There are no environments: `fstore run --env NAME` makes one of what differs from production.")
        return
    print_table(
        "", ("environment", "views of its own", "created"),
        [(item.name, ", ".join(view.name for view in item.views), item.created_at) for item in found],
    )  # fmt: skip


def drop_environment(name: str, *, as_json: bool) -> None:
    """Remove a development environment."""
    if name == NEXT:
        raise SettingsError("next is no environment: `fstore apply` of the registered definitions takes changes back")
    with open_backends(load_settings()) as backends:
        dropped = backends.registry.overlays.drop(name)
    if as_json:
        print_json({"name": dropped.name, "views": [view.name for view in dropped.views]})
    else:
        console.print(f"[green]✓[/] environment {name} is gone; production is as it was.")


def _production(command: str) -> Settings:
    """Return the settings of production. Raises SettingsError in an environment."""
    settings = load_settings()
    if settings.environment:
        raise SettingsError(f"`fstore {command}` is about production: unset FSTORE_ENVIRONMENT ({settings.environment!r})")
    return settings


def _sides(backends: Backends) -> list[tuple[Side, Side]]:
    """Return the pairs to compare: live beside an environment's or the next generation, or beside what was live before."""
    registry = backends.registry
    live = {view.name: view for view in registry.on_overlay("").views()}
    overlay = registry.overlays.get(registry.overlay or NEXT)
    if overlay is not None or registry.overlay:
        return [
            (Side(step=live[view.name].step, generation=live[view.name].generation),
             Side(step=view.step, generation=view.generation))
            for view in (overlay.views if overlay else ())
            if view.name in live and live[view.name].generation != view.generation
        ]  # fmt: skip
    standing = [flip for flip in registry.overlays.flips() if flip.rolled_back_at is None and flip.old_version]
    return [
        (Side(step=registry.step_of_version(flip.view, flip.old_version), generation=flip.old_generation),
         Side(step=live[flip.view].step, generation=flip.new_generation))
        for flip in standing
        if flip.version == standing[0].version and flip.view in live and live[flip.view].generation == flip.new_generation
    ]  # fmt: skip


def _print_comparison(found: Comparison) -> None:
    console.print(
        f"[bold]{found.view}[/]: generation {found.old_generation} with {found.old_rows:,} rows, generation "
        f"{found.new_generation} with {found.new_rows:,}; {found.only_old:,} rows are in the old one only, "
        f"{found.only_new:,} in the new one only"
    )
    if found.note:
        console.print(f"  {escape(found.note)}")
    for label, names in (("added", found.added), ("removed", found.removed)):
        if names:
            console.print(f"  {label}: {', '.join(names)}")
    if found.features:
        counts = ("changed rows", "of", "keys", "largest change", "mean", "new mean", "nulls", "new nulls", "shift")
        print_table(
            "",
            ("feature", *counts, "old", "new"),
            [
                (item.feature, item.changed_rows, item.rows, item.changed_keys, _percent(item.largest_change), item.old_mean,
                 item.new_mean, _percent(item.old_null_share), _percent(item.new_null_share),
                 None if item.shift is None else f"{item.shift:.3f}", sparkline(item.old_shares), sparkline(item.new_shares))
                for item in found.features
            ],
            numbers=counts,
        )  # fmt: skip


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.3g} %"


def _print_flips(done: Sequence[Flip], *, back: bool, as_json: bool) -> None:
    """Print which generation of each view is live now, in place of which."""
    if as_json:
        print_json(done)
        return
    for flip in done:
        old = flip.old_generation if flip.old_version else None
        live, replaced = (old, flip.new_generation) if back else (flip.new_generation, old)
        now = "no generation is live" if live is None else f"generation {live} is live"
        place = "" if replaced is None else f", in place of generation {replaced}"
        console.print(f"[green]✓[/] {flip.view}: {now}{place}")


def _print_environment(backends: Backends, name: str, *, as_json: bool) -> None:
    overlay = backends.registry.overlays.get(name)
    views = overlay.views if overlay else ()
    if as_json:
        print_json({"environment": name, "views": {view.name: view.generation for view in views}})
        return
    console.print(
        f"[green]✓[/] environment [bold]{name}[/] has {len(views)} view(s) of its own"
        + (f": {', '.join(view.name for view in views)}" if views else "; everything is as in production")
    )
