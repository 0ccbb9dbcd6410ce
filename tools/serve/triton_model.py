"""A bundle as a model of Triton's python backend: ``skipc triton`` copies this file.

Triton imports it in a process of its own and forms the batches. Beside it lie the bundle and
``skipc_runtime``, the runtime's folder, so that only NumPy and the backend's library must be
installed there.
"""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils
from skipc_runtime import AdaptiveEngine, Budget, SkipcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

BUNDLE = "bundle.skipc"
_REQUEST_KEYS = ("latency_ms",)


class TritonPythonModel:
    """The model; its names are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the engine, as the model's configuration says."""
        _check_numpy()
        config = json.loads(args["model_config"])
        said = {key: each["string_value"] for key, each in config["parameters"].items()}
        number = {
            key: float(said[key]) for key in ("latency_ms", "min_accuracy") if key in said
        }
        threads = said.get("threads")
        self._inputs = [each["name"] for each in config["input"]]
        self._joins = config["max_batch_size"] > 0
        self._engine = AdaptiveEngine.open(
            Path(__file__).with_name(BUNDLE),
            Budget(**number),
            said["target"],
            None if threads is None else int(threads),
        )
        self._engine.pin(said.get("configuration"))
        calls = pb_utils.MetricFamily(
            name="skipc_calls", description="Calls of the engine.", kind=_counter()
        )
        rows = pb_utils.MetricFamily(
            name="skipc_rows", description="Rows in these calls.", kind=_counter()
        )
        self._families = calls, rows  # metrics live as long as these
        labels = [
            {"model": args["model_name"], "configuration": name}
            for name in self._engine.configurations
        ]
        self._counts = {
            label["configuration"]: [family.Metric(labels=label) for family in self._families]
            for label in labels
        }

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Returns a response for each request of a batch that Triton made."""
        responses: list[Any] = [None] * len(requests)
        ready: list[tuple[int, Arrays, float | None]] = []
        for index, request in enumerate(requests):
            try:
                ready.append((index, self._arrays(request), _latency_ms(request)))
            except (SkipcError, ValueError) as refused:
                responses[index] = _failed(refused)
        groups: dict[object, list[tuple[int, Arrays, float | None]]] = {}
        for one in ready:
            key = tuple(a.shape[1:] for a in one[1].values()) if self._joins else one[0]
            groups.setdefault(key, []).append(one)
        for group in groups.values():
            self._answer(group, requests, responses)
        return responses

    def finalize(self) -> None:
        """Closes the engine."""
        self._engine.close()

    def _arrays(self, request: Any) -> Arrays:
        tensors = {n: pb_utils.get_input_tensor_by_name(request, n) for n in self._inputs}
        return {name: tensor.as_numpy() for name, tensor in tensors.items()}

    def _answer(
        self,
        group: Sequence[tuple[int, Arrays, float | None]],
        requests: Sequence[Any],
        responses: list[Any],
    ) -> None:
        """Puts the responses of one call; where that fails, of a call for each request."""
        limits = [limit for _, _, limit in group if limit is not None]
        arrays = [each for _, each, _ in group]
        joined = arrays[0]
        if len(group) > 1:
            joined = {name: np.concatenate([a[name] for a in arrays]) for name in joined}
        try:
            outputs = self._engine(joined, deadline_ms=min(limits, default=None))
        except SkipcError as failure:
            if len(group) == 1:
                responses[group[0][0]] = _failed(failure)
                return
            for one in group:
                self._answer([one], requests, responses)
            return
        rows = [len(next(iter(a.values()))) if self._joins else 1 for a in arrays]
        record = self._engine.last
        assert record is not None
        for metric, count in zip(
            self._counts[record.configuration], (1, sum(rows)), strict=True
        ):
            metric.increment(count)
        ends = list(accumulate(rows))
        for (index, _, _), count, end in zip(group, rows, ends, strict=True):
            wanted = requests[index].requested_output_names()
            part = slice(end - count, end) if self._joins else slice(None)
            tensors = [
                pb_utils.Tensor(
                    name, np.ascontiguousarray(array[part] if array.ndim else array)
                )
                for name, array in outputs.items()
                if name in wanted
            ]
            responses[index] = pb_utils.InferenceResponse(tensors)


def _latency_ms(request: Any) -> float | None:
    """Returns what a request says that it may take, in ms."""
    said = json.loads(request.parameters() or "{}")
    for key in said:
        if key not in _REQUEST_KEYS and not key.startswith("triton_"):
            raise ValueError(
                f"unknown request parameter {key!r}. Known: {_REQUEST_KEYS[0]!r}."
            )
    if "latency_ms" not in said:
        return None
    try:
        limit_ms = float(said["latency_ms"])
    except (TypeError, ValueError):
        limit_ms = 0.0
    if not 0 < limit_ms < float("inf"):
        raise ValueError(
            f"latency_ms={said['latency_ms']!r}: expected milliseconds above zero."
        )
    return limit_ms


def _failed(failure: Exception) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(str(failure)))


def _counter() -> Any:
    return pb_utils.MetricFamily.COUNTER


def _check_numpy() -> None:
    """Raises where this Triton cannot answer with this NumPy's arrays.

    What was built before NumPy 2 takes its arrays for empty ones. Such Tritons are told by
    their responses, which have no parameters yet.
    """
    known = pb_utils.InferenceResponse.__init__.__doc__ or ""
    if "parameters" not in known and int(np.__version__.partition(".")[0]) >= 2:
        raise pb_utils.TritonModelException(
            f"this Triton cannot answer with the arrays of NumPy {np.__version__}. Install"
            " 'numpy<2' where its python backend runs."
        )
