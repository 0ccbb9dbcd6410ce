"""Reading scenarios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skipc.profiles.reading import read_toml
from skipc.runtime.bundle.records import read
from skipc.runtime.errors import choices_text
from skipc.tools.simulate.scenario import Scenario, ScenarioError

_FOLDER = Path(__file__).parent / "scenarios"


def shipped_scenarios() -> dict[str, Path]:
    """Returns the files of the scenarios that come with skipc, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def find_scenario(name: str) -> Scenario:
    """Returns a scenario by its name, or from a file of one's own (``./my.toml``).

    Raises:
        ScenarioError: There is none, or its file is not a scenario.
    """
    if name.endswith(".toml") or "/" in name:
        return read_scenario(Path(name))
    shipped = shipped_scenarios()
    if name not in shipped:
        raise ScenarioError(
            f"there is no scenario {name!r}. {choices_text(name, shipped)} A file of your own"
            " ends in .toml."
        )
    return read_scenario(shipped[name])


def read_scenario(path: Path) -> Scenario:
    """Returns the scenario in a TOML file.

    Raises:
        ScenarioError: The file cannot be read, or is none; the message names the key.
    """
    scenario = read(Scenario, read_toml(path, ScenarioError), str(path), ScenarioError)
    return replace(scenario, file=path.stem)
