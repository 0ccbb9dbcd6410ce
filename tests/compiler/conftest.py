"""What the compiler's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.operators import operators_once
from tests.zoo.files import files_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.compiler.axes.precision import Precision
    from tests.zoo.files import Files

__all__ = ["operators_once"]


@pytest.fixture(scope="session")
def zoo_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Precision], Files]:
    """Returns what gives the subnets of a network of the zoo in a precision, as files."""
    return files_below(tmp_path_factory.mktemp("zoo"))
