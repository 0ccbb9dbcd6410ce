"""What ``skipc simulate`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import table
from skipc.tools.simulate.replay import LEAST_MS
from skipc.tools.simulate.tally import ADAPTATION_CALLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skipc.tools.console import Rows
    from skipc.tools.simulate.scenario import Scenario
    from skipc.tools.simulate.tally import Replay

_KEYS = (
    *("calls", "counted_calls", "within_budget", "within_budget_of_all_calls", "mean_rank"),
    *("oracle_rank", "cheapest_rank", "switches_per_s", "simulated_s", "taken_s"),
    *("stage_shares", "cut_calls", "spent_mj", "oracle_mj"),
)
_MODE_KEYS = ("mode", "changes", "mode_s")
_AVERAGE_KEYS = ("kind", "granted", "taken", "largest_overdraft_of_burst")
_UNITS = {"energy": "mJ", "power": "W", "battery": "W"}


def scenario_documents(scenarios: Iterable[Scenario]) -> list[dict[str, object]]:
    """Returns what scenarios there are, for JSON."""
    return [
        {
            "scenario": scenario.file,
            "duration_s": scenario.duration_s,
            "description": scenario.description,
        }
        for scenario in scenarios
    ]


def scenario_table(scenarios: Iterable[Scenario]) -> Rows:
    """Returns what scenarios there are, as a table."""
    rows = table("scenario", ">seconds", "what happens")
    for scenario in scenarios:
        rows.add_row(scenario.file, f"{scenario.duration_s:g}", scenario.description)
    return rows


def replay_table(replays: Sequence[Replay]) -> Rows:
    """Returns what came of each scenario, as a table."""
    exits = [">answered at", ">cut"] if any(found.stages for found in replays) else []
    modes = [">changes", ">modes"] if any(found.stats.modes for found in replays) else []
    rows = table(
        "scenario", ">calls", ">feasible", ">in time", ">gain", ">switches", *exits, *modes,
        "taken/granted",
    )  # fmt: skip
    for found in replays:
        counted, kept = found.counted_calls, found.average
        rows.add_row(
            found.scenario.file,
            str(found.calls),
            f"{100 * (1 - found.stats.infeasible_calls / max(found.calls, 1)):.0f} %",
            f"{100 * found.within_budget:.2f} %" if counted and found.limited else "-",
            f"{round(100 * found.gain)} %" if counted else "-",
            str(found.stats.switches),
            *(_exits(found) if exits else ()),
            *(_modes(found) if modes else ()),
            "-"
            if kept is None
            else f"{kept.taken:.4g}/{kept.granted:.4g} {_UNITS[kept.kind]}",
        )
    return rows


def _exits(found: Replay) -> tuple[str, str]:
    if not found.stages:
        return "-", "-"
    shares = "/".join(f"{100 * share:.0f}" for share in found.stage_shares)
    return f"{shares} %", f"{100 * found.cut_calls / found.stages.total():.1f} %"


def _modes(found: Replay) -> tuple[str, str]:
    modes = found.stats.modes
    if modes is None:
        return "-", "-"
    whole_s = max(sum(modes.mode_s.values()), 1e-9)
    shares = "/".join(f"{100 * s / whole_s:.0f}" for s in modes.mode_s.values())
    return str(modes.changes), f"{shares} %"


def replay_notes(replays: Sequence[Replay], scale: float) -> str:
    """Returns what the table means; ``scale`` is what latencies were multiplied by."""
    times = sum(found.simulated_s for found in replays) / sum(r.taken_s for r in replays)
    text = (
        "in time: calls within a latency budget that could be met, without the first"
        f" {ADAPTATION_CALLS} after each sudden change. gain: of the accuracy that an oracle"
        " which knows the device gains over the fastest configuration. taken/granted: on"
        " average, of energy or power."
        f" {times:.3g} times faster than real time."
    )
    if any(found.stages for found in replays):
        text += (
            " answered at: of the calls of early exits, how many each of them answered. cut:"
            " those that a hard deadline ended."
        )
    named = [[*found.stats.modes.mode_s] for found in replays if found.stats.modes]
    if named:
        text += f" modes: the share of the time in {', '.join(named[0])}; changes of them."
    if scale > 1:
        text += (
            f" Latencies and energies, granted ones too, are taken {scale:.3g} times as large,"
            f" so that calls take {LEAST_MS:g} ms and there are fewer of them."
        )
    return text


def replay_document(found: Replay) -> dict[str, object]:
    """Returns what came of a scenario, for JSON."""
    kept, modes = found.average, found.stats.modes
    beside = {
        "calls_beside_changes": found.calls_beside_changes,
        "late_beside_changes": found.late_beside_changes,
    }
    return {
        "scenario": found.scenario.file,
        **{key: getattr(found, key) for key in _KEYS},
        "gain_of_oracle": found.gain,
        "infeasible_calls": found.stats.infeasible_calls,
        "average": kept and {key: getattr(kept, key) for key in _AVERAGE_KEYS},
        "modes": modes and {**{key: getattr(modes, key) for key in _MODE_KEYS}, **beside},
    }
