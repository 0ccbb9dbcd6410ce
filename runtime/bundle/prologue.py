"""What goes in front of the networks of a bundle, and what is drawn for it at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .constraints import Distinct, NotEmpty, Positive, RelativePath, Text
from .tensors import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Draw:
    """An input that is not given but drawn anew for each call.

    ``normal`` has the mean ``centre`` and the standard deviation ``width``; ``uniform`` lies
    between ``centre - width`` and ``centre + width``.
    """

    name: str
    distribution: Literal["normal", "uniform"]
    centre: float
    width: Positive

    def draw(
        self, random: np.random.Generator, shape: tuple[int, ...], dtype: str
    ) -> NDArray[Any]:
        """Returns numbers of that distribution."""
        if self.distribution == "normal":
            drawn = random.standard_normal(shape, "float32")
        else:
            drawn = 2 * random.random(shape, "float32") - 1
        drawn *= self.width
        drawn += self.centre
        return drawn.astype(dtype, copy=False)


@dataclass(frozen=True, slots=True)
class PrologueEntry:
    """What goes in front.

    Attributes:
        text: Its steps, or the name of its file.
        sha256: The file's hash; empty without one.
        gives: What it makes for the networks.
        golden: What it gives for the golden inputs, where graphs take that; else empty.
        client: The folder of the bundle that holds it, where it is one by itself; else empty.
        draws: The inputs of this bundle that are drawn.
    """

    text: str
    sha256: Text
    gives: Annotated[tuple[TensorSpec, ...], NotEmpty(), Distinct("name")]
    golden: Annotated[Text, RelativePath()] = ""
    client: Annotated[Text, RelativePath()] = ""
    draws: Annotated[tuple[Draw, ...], Distinct("name")] = ()
