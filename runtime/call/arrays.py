"""Checks of the arrays that a call is given, and of those that a network gives.

Nothing is cast, reshaped or copied.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np

from ..backends.cuda.device_arrays import UNSYNCHRONIZED, borrowed, is_device_array
from ..bundle.tensors import typical_sizes
from ..errors import ChoiceError, EngineError, InputError, choices_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..bundle.tensors import Dimension, Sizes, TensorSpec

_LOG = logging.getLogger(__name__)

NAN_POLICIES = ("pass", "raise")
NAN_OUTPUT_POLICIES = ("pass", "warn", "fall-back")


class InputChecker:
    """The inputs that a network takes.

    Where ``nan`` is ``raise`` and not ``pass``, NaN and infinity are refused, at the cost of
    reading each array once more.

    Raises:
        ChoiceError: ``nan`` is neither, or ``dimensions`` are not those that shapes name.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        dimensions: Sequence[Dimension] = (),
        nan: str = "pass",
    ) -> None:
        _check_policy("nan", nan, NAN_POLICIES)
        self._dimensions = {each.name: each for each in dimensions}
        self._finite_only = nan == "raise"
        self._specs = {spec.name: (spec, np.dtype(spec.dtype)) for spec in inputs}
        self._free = [(s.name, axis, size) for s in inputs for axis, size in enumerate(s.shape)
                      if isinstance(size, str)]  # fmt: skip
        self.dynamic = bool(self._free)
        """Whether there are free dimensions."""
        places = {size: (name, axis) for name, axis, size in self._free}
        if places.keys() != self._dimensions.keys():
            raise ChoiceError(
                f"the inputs name the free dimensions {sorted(places)}, but sizes are given of"
                f" {sorted(self._dimensions)}. Give a Dimension for each of them."
            )
        self._places = [places[each.name] for each in dimensions]
        self._only = inputs[0].name if len(inputs) == 1 else None

    def check(self, given: object) -> dict[str, NDArray[Any]]:
        """Returns the arrays by input name; they are the caller's own.

        ``given`` maps every input's name to its array, or is the array of the only one.

        Raises:
            InputError: A name is missing or unknown; something is not an array; type,
                byte order or shape is not the expected one; two inputs differ in
                a free dimension; or ``nan`` is ``raise`` and a value is not finite.
        """
        arrays: dict[str, Any]
        if type(given) is np.ndarray and self._only is not None:  # no slow look for a mapping
            arrays = {self._only: given}
            spec, dtype = self._specs[self._only]
            usual = given.dtype is dtype and given.shape == spec.shape
            if usual and not self._finite_only:
                return arrays
        else:
            arrays = dict(given) if isinstance(given, Mapping) else self._single(given)
            if arrays.keys() != self._specs.keys():
                self._refuse_names(arrays)
        for name, (spec, dtype) in self._specs.items():
            array = arrays[name]
            if type(array) is not np.ndarray:
                array = self._on_gpu(name, array)
            if array.dtype is not dtype and array.dtype != dtype:
                _refuse_dtype(name, array.dtype, dtype)
            if array.shape != spec.shape and not self._fits(array.shape, spec):
                raise InputError(
                    f"input {name!r} has the shape {array.shape}, expected"
                    f" {self._shape_text(spec)}."
                )
        if self.dynamic:
            self._check_alike(arrays)
        if self._finite_only:
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise InputError(
                        f"input {name!r} lies on the GPU, where nan='raise' cannot look. Open"
                        " the engine with nan='pass', or check it there."
                    )
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise InputError(
                        f"input {name!r} holds NaN or infinity. Clean it, or open the engine"
                        " with nan='pass' to run all the same."
                    )
        return arrays

    def sizes(self, arrays: Mapping[str, Any]) -> tuple[int, ...]:
        """Returns the sizes of the free dimensions, in their order."""
        return tuple([arrays[name].shape[axis] for name, axis in self._places])

    def all_sizes(self, given: Sizes) -> tuple[int, ...]:
        """Returns a size for each free dimension, in their order: the typical, or as given.

        Raises ``InputError`` where one is given that there is none of.
        """
        for name in given:
            if name not in self._dimensions:
                choices = choices_text(name, self._dimensions)
                raise InputError(f"there is no free dimension {name!r}. {choices}")
        return tuple(given.get(n, each.typical) for n, each in self._dimensions.items())

    def sample(self) -> dict[str, NDArray[Any]]:
        """Returns zeros of the expected types and shapes, at the typical sizes."""
        typical = typical_sizes(self._dimensions.values())
        return {
            name: np.zeros(spec.shape_at(typical), dtype)
            for name, (spec, dtype) in self._specs.items()
        }

    def _on_gpu(self, name: str, array: Any) -> Any:
        """Returns ``array``, or for one on the GPU what has its shape and type.

        Whether it is taken from there is the backend's affair.
        """
        if not isinstance(array, np.ndarray) and is_device_array(array):
            return borrowed(name, array, UNSYNCHRONIZED)
        _refuse_kind(name, array)
        return array

    def _single(self, given: object) -> dict[str, Any]:
        if self._only is None:
            raise InputError(
                f"the network has {len(self._specs)} inputs, found one {_kind(given)}."
                f" Expected a dict with an array for each of {list(self._specs)}."
            )
        return {self._only: given}

    def _refuse_names(self, arrays: Mapping[str, Any]) -> None:
        unknown = [name for name in arrays if name not in self._specs]
        if unknown:
            choices = choices_text(str(unknown[0]), self._specs)
            raise InputError(f"the network has no input {unknown[0]!r}. {choices}")
        missing = [name for name in self._specs if name not in arrays]
        raise InputError(
            f"input {missing[0]!r} is missing. Expected an array for each of"
            f" {list(self._specs)}."
        )

    def _fits(self, shape: tuple[int, ...], spec: TensorSpec) -> bool:
        if len(shape) != len(spec.shape):
            return False
        for found, size in zip(shape, spec.shape, strict=True):
            if isinstance(size, int):
                if found != size:
                    return False
            elif not self._dimensions[size].takes(found):
                return False
        return True

    def _check_alike(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Checks that a free dimension has one size, in whichever input it is."""
        seen: dict[str, tuple[str, int]] = {}
        for name, axis, size in self._free:
            found = arrays[name].shape[axis]
            first = seen.setdefault(size, (name, found))
            if first[1] != found:
                both = f"inputs {first[0]!r} and {name!r} differ"
                whose = f"input {name!r} differs" if first[0] == name else both
                raise InputError(f"{whose} in {size}: {first[1]} and {found}.")

    def _shape_text(self, spec: TensorSpec) -> str:
        sizes = ", ".join(str(size) for size in spec.shape)
        text = f"({sizes},)" if len(spec.shape) == 1 else f"({sizes})"
        names = dict.fromkeys(size for size in spec.shape if isinstance(size, str))
        free = [self._dimensions[name] for name in names]
        ranges = [f"{each.name} from {each.text}" for each in free]
        return f"{text} with {' and '.join(ranges)}" if ranges else text


class NotFiniteError(EngineError):
    """An output holds NaN or infinity, and the policy is to fall back."""


@final
class OutputChecker:
    """Looks at outputs as ``nan_outputs`` of ``AdaptiveEngine.open`` says.

    Those that stay on a GPU are not looked at, nor are those that are no floating-point
    numbers of NumPy's own.

    Raises:
        ChoiceError: ``policy`` is not one.
    """

    def __init__(self, policy: str) -> None:
        _check_policy("nan_outputs", policy, NAN_OUTPUT_POLICIES)
        self._policy = policy
        self.looks = policy != "pass"
        """Whether there is anything to check."""
        self._warned: dict[str, object] = {}

    def check(self, configuration: str, outputs: Mapping[str, Any]) -> None:
        """Looks at the outputs of a call.

        Raises:
            NotFiniteError: One holds NaN or infinity, and the policy is ``fall-back``.
        """
        if not self.looks:
            return
        for name, array in outputs.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
                continue
            finite = np.isfinite(array)
            if finite.all():
                continue
            what = (
                f"configuration {configuration!r}: {int((~finite).sum())} of {array.size}"
                f" values of output {name!r} are NaN or infinite."
            )
            if self._policy == "fall-back":
                raise NotFiniteError(what)
            said = object()
            if self._warned.setdefault(configuration, said) is said:
                _LOG.warning("%s This is said once.", what)


def _check_policy(option: str, given: str, policies: tuple[str, ...]) -> None:
    if given not in policies:
        choices = choices_text(str(given), policies)
        raise ChoiceError(f"{option}={given!r} is not a policy. {choices}")


def _refuse_kind(name: str, array: object) -> None:
    """Raises unless ``array`` is of a subclass of ndarray that can be taken as one."""
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"input {name!r} is a masked array; fill it first, with .filled(0).")
    if not isinstance(array, np.ndarray):
        raise InputError(
            f"input {name!r} is a {_kind(array)}, expected a numpy array. Use numpy.asarray,"
            " or .numpy() of a tensor."
        )


def _refuse_dtype(name: str, found: np.dtype[Any], expected: np.dtype[Any]) -> None:
    if found.newbyteorder("=") == expected:
        raise InputError(
            f"input {name!r} is not in this machine's byte order. Convert it with"
            f" .astype(np.{_numpy_name(expected)})."
        )
    raise InputError(
        f"input {name!r} is {found}, expected {expected}. Nothing is cast silently: use"
        f" .astype(np.{_numpy_name(expected)})."
    )


def _numpy_name(dtype: np.dtype[Any]) -> str:
    return "bool_" if dtype.kind == "b" else dtype.name


def _kind(value: object) -> str:
    return type(value).__name__
