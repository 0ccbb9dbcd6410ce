"""The building half of the TensorRT double: parser, network, config, builder."""

from __future__ import annotations

import base64
import enum
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx


class _Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """Base of the application's logger."""

    Severity = _Severity


class IProgressMonitor:
    """Base of the application's monitor."""


class BuilderFlag(enum.IntEnum):
    REFIT = 0
    STRIP_PLAN = 1
    REFIT_IDENTICAL = 2


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.IntEnum):
    DEVICE = 0
    HOST = 1


class ExecutionContextAllocationStrategy(enum.IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class _Dims(tuple):  # noqa: SLOT001
    """``Dims``: a tuple."""


class _Builder:
    fake: Any

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        typed = 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        if flags != typed:
            self.fake.device.note("a network that is not strongly typed")
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _OptimizationProfile:
        return _OptimizationProfile()

    def build_serialized_network(self, network: _Network, config: _Config) -> Any:
        fake, name = self.fake, network.model.graph.name
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 3)
        for step in range(3):
            if not monitor.step_complete("Building engine", step):
                fake.say(self._logger, "the build was cancelled")
                return None
        monitor.phase_finish("Building engine")
        if name in fake.broken:
            fake.say(self._logger, f"no implementation for {name}")
            return None
        dynamic = any(
            dim.dim_param for value in network.model.graph.input
            for dim in value.type.tensor_type.shape.dim
        )  # fmt: skip
        if dynamic and not config.profiles:
            fake.say(self._logger, "dynamic input without an optimization profile")
            return None
        if BuilderFlag.REFIT in config.flags_set:
            fake.device.note("built with plain REFIT")
        fake.built.append(name)
        fake.cached.append(bool(config.cache and config.cache.data))
        if config.cache:
            config.cache.data += b"timed "
        stripped = BuilderFlag.STRIP_PLAN in config.flags_set
        return _plan(network.model, stripped=stripped)


def _plan(model: onnx.ModelProto, *, stripped: bool) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = sum(len(tensor.raw_data) for tensor in copy.graph.initializer)
    if stripped:
        for tensor in copy.graph.initializer:
            if len(tensor.raw_data) >= 256:
                tensor.raw_data = b""
    graph = base64.b64encode(copy.SerializeToString()).decode()
    document = {"graph": graph, "stripped": stripped, "bytes": weights}
    return json.dumps(document).encode()


class _Network:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self.model.graph.output)

    def get_input(self, index: int) -> SimpleNamespace:
        return _tensor(self.model.graph.input[index])

    def get_output(self, index: int) -> SimpleNamespace:
        return _tensor(self.model.graph.output[index])


def _tensor(value: onnx.ValueInfoProto) -> SimpleNamespace:
    kind = value.type.tensor_type
    shape = _Dims(-1 if dim.dim_param else dim.dim_value for dim in kind.shape.dim)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    names = [dim.dim_param for dim in kind.shape.dim]
    return SimpleNamespace(
        name=value.name, shape=shape, dtype=dtype, get_dimension_name=names.__getitem__
    )


class _OptimizationProfile:
    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        assert tuple(min) <= tuple(opt) <= tuple(max)


class _Config:
    def __init__(self) -> None:
        self.flags_set: set[BuilderFlag] = set()
        self.profiles: list[_OptimizationProfile] = []
        self.cache: _Cache | None = None
        self.progress_monitor: Any = None
        self.builder_optimization_level = 3
        self.pool: dict[MemoryPoolType, int] = {}

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags_set.add(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pool[pool] = pool_size

    def add_optimization_profile(self, profile: _OptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _Cache:
        return _Cache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        if cache.data and not cache.data.startswith(b"timed"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> _Cache | None:
        return self.cache


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class _Error:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return ""

    def node_operator(self) -> str:
        return ""


class _OnnxParser:
    fake: Any

    def __init__(self, network: _Network, logger: Any) -> None:
        self._network = network
        self._errors: list[_Error] = []

    def parse(self, model: bytes, path: str) -> bool:
        self._network.model = onnx.ModelProto.FromString(model)
        onnx.load_external_data_for_model(self._network.model, str(Path(path).parent))
        onnx.external_data_helper.convert_model_from_external_data(self._network.model)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _Error:
        return self._errors[index]
