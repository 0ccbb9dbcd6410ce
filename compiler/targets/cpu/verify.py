"""The comparison that packing must pass before the engine is compared with the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Case = dict[str, NDArray[Any]]


def check_same_bits(graph: str, before: list[Case], after: list[Case]) -> None:
    """Checks that packing changed nothing: a wrong offset gives wrong numbers and no error.

    Args:
        graph: The graph's name.
        before: Outputs of the plain session, for each golden input.
        after: Outputs of the session on the packed store.

    Raises:
        NumericsError: An output has other bits.
    """
    for index, (expected, found) in enumerate(zip(before, after, strict=True)):
        for name, array in expected.items():
            same = (
                found[name].dtype == array.dtype
                and found[name].shape == array.shape
                and found[name].tobytes() == array.tobytes()
            )
            if not same:
                error = difference([{name: found[name]}], [{name: array}], {name: 1.0})
                how = f"({error.unlike})" if error.unlike else f"by {error.max_abs_error:.3g}"
                raise NumericsError(
                    f"graph {graph!r}: output {name!r} of golden input {index}"
                    f" changes {how} when the weights are packed. Expected the same"
                    " bits; this onnxruntime version packs weights in a way that skipc does"
                    " not know. Try another version, and report it."
                )
