"""The digits, which the training recipes use, too: what they train on is not reported on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.recipes.digits_data import Part, load_digits
from skipc.compiler.select.data import PARTS
from skipc.compiler.select.samples import Parts, Samples

if TYPE_CHECKING:
    from skipc.compiler.select.data import DataOptions

INPUT = "images"


def digits_parts(options: DataOptions) -> Parts:
    """Returns re-estimation images from the training part, and the two parts held out.

    The split is fixed. Norm statistics are estimated on as many images as are selected on.

    Raises:
        SelectError: Other shares are asked for.
        ExtraMissingError: scikit-learn is not installed.
    """
    if options.parts != PARTS:
        raise SelectError(
            f"--parts {':'.join(map(str, options.parts))}: the digits have fixed parts, so"
            " that nothing that was trained on is reported on. Leave --parts out."
        )
    digits = load_digits()
    most = options.samples
    return Parts(
        _samples(digits.train, min(len(digits.selection.labels), most)),
        _samples(digits.selection, most),
        _samples(digits.report, most),
    )


def _samples(part: Part, count: int) -> Samples:
    return Samples({INPUT: part.images[:count]}, part.labels[:count])
