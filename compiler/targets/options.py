"""What a user may tell the builder of engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError

if TYPE_CHECKING:
    from skipc.profiles import Profile
    from skipc.runtime.bundle.manifest import EngineForm, Recipe

LEVELS = range(6)
"""TensorRT's ``builder_optimization_level``: 0 builds fastest, 5 tries most."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Options of a target; None leaves the library's default.

    Attributes:
        workspace_bytes: Most scratch memory that a layer may ask for.
        optimization_level: How much TensorRT tries, of ``LEVELS``.
        engines: The form of the engines on a CPU; ``each`` by default.

    Raises:
        TargetError: A value is out of its range.
    """

    workspace_bytes: int | None = None
    optimization_level: int | None = None
    engines: EngineForm | None = None

    def __post_init__(self) -> None:
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise TargetError(
                f"workspace of {self.workspace_bytes} bytes: expected at least 1."
            )
        if self.optimization_level is not None and self.optimization_level not in LEVELS:
            raise TargetError(
                f"optimization level {self.optimization_level}: expected 0 to {LEVELS[-1]}."
            )

    def or_else(self, recipe: Recipe) -> TargetOptions:
        """Returns these options; what was not given is taken from ``recipe``."""
        workspace_bytes, level = self.workspace_bytes, self.optimization_level
        return TargetOptions(
            recipe.workspace_bytes if workspace_bytes is None else workspace_bytes,
            recipe.optimization_level if level is None else level,
            self.engines or recipe.engines,
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """What was given, as words of a command line."""
        values = {
            "--workspace": self.workspace_bytes,
            "--optimization-level": self.optimization_level,
            "--engines": self.engines,
        }
        given = [(name, str(value)) for name, value in values.items() if value is not None]
        return tuple(word for pair in given for word in pair)

    def refuse(self, profile: Profile) -> None:
        """Refuses what is another target's.

        Raises:
            TargetError: Such an option was given.
        """
        for name in self.arguments[::2]:
            of_cpu = name == "--engines"
            if not profile.backend.startswith("onnxruntime-cpu" if of_cpu else "tensorrt"):
                whose = "for the CPU" if of_cpu else "TensorRT's"
                raise TargetError(
                    f"{name} is {whose}; target {profile.name!r} runs on {profile.backend}."
                    " Leave it out."
                )


@dataclass(frozen=True, slots=True)
class Int8Form:
    """How a target wants int8.

    Attributes:
        unsigned: Activations are uint8 around any zero point; else int8 around 0.
        seven_bits: Weights have 7 bits: a CPU without a dot-product instruction adds two
            products in 16 bits, which saturates.
        integer_bias: Biases are int32; else float32.
        dynamic: It also computes with ranges that are found in each call.
    """

    unsigned: bool = True
    seven_bits: bool = False
    integer_bias: bool = True
    dynamic: bool = True
