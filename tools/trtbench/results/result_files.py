"""The files that ``trtbench`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from skipc.compiler.bundle.files import write_whole
from skipc.runtime.backends.phases import phased_backend
from skipc.runtime.errors import ChoiceError
from skipc.tools.options import check_place
from skipc.tools.trtbench.results.document import encoded
from skipc.tools.trtbench.results.regime import HOST_TIMES_ARE_COMPUTE
from skipc.tools.trtbench.results.times_file import encoded_phases, encoded_times, times_paths
from skipc.tools.trtbench.running.layers import encoded_profile

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.backends import Backend
    from skipc.tools.trtbench.measuring import Found


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """Where results go; None for what is not wanted.

    Attributes:
        report: The report as JSON.
        times: Every call's times; one file for each configuration.
        profile: The layers' times; likewise.
    """

    report: Path | None
    times: Path | None
    profile: Path | None

    def check_places(self) -> None:
        """Raises ``click.UsageError`` where nothing could be written."""
        for option, path in (
            ("--json", self.report),
            ("--exportTimes", self.times),
            ("--exportProfile", self.profile),
        ):
            if path is not None:
                check_place(option, path)
        named = [path.absolute() for path in (self.report, self.times, self.profile) if path]
        if len(set(named)) < len(named):
            raise click.UsageError(
                "--json, --exportTimes and --exportProfile name one file for two things. Name"
                " a file for each."
            )

    def check_backend(self, backend: Backend) -> None:
        """Raises ``ChoiceError`` if the backend cannot tell what the files are to hold."""
        told = backend.name in HOST_TIMES_ARE_COMPUTE or phased_backend(backend) is not None
        if self.times is not None and not told:
            raise ChoiceError(
                f"--exportTimes {self.times}: the backend {backend.name!r} does not tell"
                " transfers from computation, which trtexec's file does. Leave it out."
            )

    def write(self, found: Found) -> list[Path]:
        """Writes what was found; returns the files, in the order of writing."""
        contents: dict[Path, bytes] = {}
        if self.report is not None:
            contents[self.report] = encoded(found.report)
        if self.times is not None:
            for name, path in times_paths(self.times, tuple(found.calls)).items():
                contents[path] = (
                    encoded_phases(found.phased[name])
                    if name in found.phased
                    else encoded_times(found.calls[name])
                )
        if self.profile is not None:
            for name, path in times_paths(self.profile, tuple(found.profiles)).items():
                contents[path] = encoded_profile(found.profiles[name])
        for path, data in contents.items():
            write_whole(path, data)
        return [*contents]
