"""``skipc simulate``: how the governor would do, without running a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.compiler.bundle.files import write_whole
from skipc.runtime.backends.host import default_threads
from skipc.runtime.bundle import Bundle
from skipc.runtime.call.trace import trace_lines, trace_of
from skipc.runtime.load.points import points_here, ranked_by
from skipc.tools.console import console, plural, print_json, progress
from skipc.tools.options import PATH, BudgetType, check_place, target_name
from skipc.tools.simulate.replay import replay, scaled, scaled_budget, slow_enough
from skipc.tools.simulate.scenario import find_scenario, shipped_scenarios
from skipc.tools.simulate.view import (
    replay_document,
    replay_notes,
    replay_table,
    scenario_documents,
    scenario_table,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime import Budget


@click.command("simulate")
@click.argument("bundle", type=PATH, required=False)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="NAME|FILE",
    help="What happens; may be repeated.  [default: all that come with skipc]",
)
@click.option(
    "--budget",
    type=BudgetType(),
    help="Grant this instead of what the scenario grants, e.g. latency_ms=12,quantile=0.95.",
)
@click.option(
    "--target", help="Whose latency table to use.  [default: the first that has one]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of a call, for the table."
)
@click.option("--trace", type=PATH, help="Write the calls here, for `skipc trace`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path | None,
    scenarios: tuple[str, ...],
    budget: Budget | None,
    target: str | None,
    threads: int | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Replay scenarios on BUNDLE's governor, far faster than real time.

    Latencies and energies are simulated from the bundle's tables. Without BUNDLE, the
    scenarios are listed.
    """
    if bundle is None:
        if scenarios or budget or target or threads or trace:
            raise click.UsageError("name a bundle: skipc simulate BUNDLE ...")
        listed = [find_scenario(name) for name in shipped_scenarios()]
        if as_json:
            print_json(scenario_documents(listed))
        else:
            console().print(scenario_table(listed))
        return
    chosen = [find_scenario(name) for name in scenarios or shipped_scenarios()]
    if trace is not None and len(chosen) > 1:
        raise click.UsageError(
            f"--trace {trace} holds one scenario, and there are {len(chosen)}. Choose one with"
            " --scenario."
        )
    if trace is not None:
        check_place("--trace", trace)
    opened = Bundle.open(bundle)
    if target is None:
        name = next(iter(opened.targets()), None)
    else:
        name = target_name(opened, target)
    engines = None if name is None else opened.engine_set(name)
    points = points_here(opened, engines, threads or default_threads())
    scale = slow_enough(points)
    points = scaled(points, scale)
    granted = None if budget is None else scaled_budget(budget, scale)
    by = ranked_by(opened.manifest)
    stops = {entry.name: entry.stops for entry in opened.manifest.configurations}
    replays = []
    with progress() as step:
        for scenario in chosen:
            step(f"replaying {scenario.name}")
            replays.append(replay(scenario, points, by, granted, stops))
    if trace is not None:
        found = replays[0]
        traced = trace_of(f"{bundle.name}, {found.scenario.name}", found.stats, found.records)
        write_whole(trace, "".join(trace_lines(traced)).encode())
    if as_json:
        documents = [replay_document(found) for found in replays]
        print_json({"bundle": str(bundle), "scale": scale, "scenarios": documents})
        return
    printed = console()
    printed.print(replay_table(replays))
    printed.print(f"\n{replay_notes(replays, scale)}")
    if trace is not None:
        count = plural(len(replays[0].records), "call")
        printed.print(f"\ntrace of the last {count}: {trace}", soft_wrap=True)
