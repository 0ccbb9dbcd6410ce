"""The classes of TensorRT that skipc uses, over a ``FakeDevice``; engines run their graph.

A plan is the graph as JSON, with its weights or, stripped, without them. Running an engine
is an operation on a stream that runs the graph in ONNX Runtime on what the device's memory
holds by then. Workspace is scribbled over, so that engines that share it while both run
spoil each other.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import itertools
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from tests.doubles.device import FailureError, OutOfMemoryError

if TYPE_CHECKING:
    from tests.doubles.device import FakeDevice

_IDS = itertools.count(1)
_CONTEXT_BYTES = 500


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


class FakeTensorRT(ModuleType):
    """The module ``tensorrt``.

    Args:
        device: The GPU.
        version: What it says it is.
        addresses: Whether weights can be handed over as addresses (from 10.13 on).

    Attributes:
        broken: Names of configurations (the graph's name) that cannot be built.
        spoiled: Names whose engines compute wrong numbers.
    """

    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    BuilderFlag = BuilderFlag
    MemoryPoolType = MemoryPoolType
    TensorIOMode = TensorIOMode
    TensorLocation = TensorLocation
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag

    def __init__(
        self, device: FakeDevice, version: str = "10.3.0", *, addresses: bool = True
    ) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.device = device
        self.broken: set[str] = set()
        self.spoiled: set[str] = set()
        self.built: list[str] = []
        self.cached: list[bool] = []
        self.log: Any = None
        here = self

        class Builder(_Builder):
            fake = here

        class OnnxParser(_OnnxParser):
            fake = here

        class Runtime(_Runtime):
            fake = here

        class Refitter(_Refitter):
            fake = here

        class OnnxParserRefitter(_OnnxParserRefitter if addresses else _FileRefitter):  # type: ignore[misc]
            fake = here

        self.Builder, self.OnnxParser, self.Runtime = Builder, OnnxParser, Runtime
        self.Refitter, self.OnnxParserRefitter = Refitter, OnnxParserRefitter

    def nptype(self, trt_type: np.dtype[Any]) -> Any:
        return trt_type.type

    def say(self, logger: Any, message: str) -> None:
        logger.log(_Severity.ERROR, message)


class _Dims(tuple):  # noqa: SLOT001
    """``Dims``: a tuple."""


class _Builder:
    fake: FakeTensorRT

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
    return SimpleNamespace(name=value.name, shape=shape, dtype=dtype)


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
    fake: FakeTensorRT

    def __init__(self, network: _Network, logger: Any) -> None:
        self._network = network
        self._errors: list[_Error] = []

    def parse_from_file(self, model: str) -> bool:
        self._network.model = onnx.load(model)
        onnx.external_data_helper.convert_model_from_external_data(self._network.model)
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _Error:
        return self._errors[index]


class _Runtime:
    fake: FakeTensorRT

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> _Engine | None:
        try:
            self.fake.device.step()
            self.fake.log = self._logger
            document = json.loads(bytes(serialized_engine))
            return _Engine(self.fake, document)
        except OutOfMemoryError:
            self.fake.say(self._logger, "Error Code 2: OutOfMemory (no further information)")
        except (FailureError, ValueError) as cause:
            self.fake.say(self._logger, f"Error Code 1: serialization {cause!r}")
        return None


class _Engine:
    def __init__(self, fake: FakeTensorRT, document: dict[str, Any]) -> None:
        self.fake = fake
        self.model = onnx.ModelProto.FromString(base64.b64decode(document["graph"]))
        self.refittable = document["stripped"]
        self.session: Any = None
        self._id = next(_IDS)
        fake.device.take(self._id, document["bytes"])
        self.bytes = document["bytes"]

    def __del__(self) -> None:
        if hasattr(self, "_id"):
            self.fake.device.give(self._id)

    @property
    def missing(self) -> list[str]:
        return [t.name for t in self.model.graph.initializer if not t.raw_data]

    @property
    def device_memory_size_v2(self) -> int:
        return 1024 + len(self.model.graph.node)

    @property
    def num_io_tensors(self) -> int:
        return len(self._values())

    def _values(self) -> list[onnx.ValueInfoProto]:
        return [*self.model.graph.input, *self.model.graph.output]

    def get_tensor_name(self, index: int) -> str:
        return self._values()[index].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = [value.name for value in self.model.graph.input]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return next(_tensor(v).shape for v in self._values() if v.name == name)

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return next(_tensor(v).dtype for v in self._values() if v.name == name)

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy
    ) -> _Context | None:
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            self.fake.device.note("a context with memory of its own")
        try:
            return _Context(self)
        except OutOfMemoryError:
            self.fake.say(self.fake.log, "Error Code 2: OutOfMemory (a context)")
            return None

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.missing:
            self.fake.device.note(f"ran without the weights {self.missing}")
        if self.session is None:
            self.session = onnxruntime.InferenceSession(
                self.model.SerializeToString(), providers=["CPUExecutionProvider"]
            )
        names = [value.name for value in self.model.graph.output]
        found = dict(zip(names, self.session.run(names, inputs), strict=True))
        if self.model.graph.name in self.fake.spoiled:
            found = {name: array + np.ones_like(array) for name, array in found.items()}
        return found


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._captured = False
        engine.fake.device.take(-id(self), _CONTEXT_BYTES)

    def __del__(self) -> None:
        self._engine.fake.device.give(-id(self))

    def _change(self) -> None:
        if self._captured:
            self._engine.fake.device.note("a context was changed after its work was captured")

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._memory = (memory, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._change()
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._change()
        if memory % 256:
            self._engine.fake.device.note(f"an address that is not aligned: {memory:#x}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, device = self._engine, self._engine.fake.device
        if self._memory is None:
            device.note("ran without a workspace")
            return False
        memory, size = self._memory
        self._captured = device.capturing(stream_handle)
        shapes, addresses = dict(self._shapes), dict(self._addresses)

        def run() -> None:
            device.view(memory, size)[:] = 0xCC
            inputs = {}
            for value in engine.model.graph.input:
                dtype, shape = _tensor(value).dtype, shapes[value.name]
                count = int(np.prod(shape)) * dtype.itemsize
                data = device.view(addresses[value.name], count)
                inputs[value.name] = data.view(dtype).reshape(shape).copy()
            for name, array in engine.run(inputs).items():
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                device.view(addresses[name], data.size)[:] = data

        try:
            device.enqueue(stream_handle, run, memory, *addresses.values())
        except FailureError:
            return False
        return True


class _Refitter:
    fake: FakeTensorRT

    def __init__(self, engine: _Engine, logger: Any) -> None:
        self.engine = engine

    def get_missing_weights(self) -> list[str]:
        return self.engine.missing

    def refit_cuda_engine(self) -> bool:
        return not self.engine.missing


class _FileRefitter:
    """``OnnxParserRefitter`` before 10.13."""

    fake: FakeTensorRT

    def __init__(self, refitter: _Refitter, logger: Any) -> None:
        self._engine = refitter.engine
        self._given: dict[str, bytes] = {}
        self._model: onnx.ModelProto | None = None

    @property
    def num_errors(self) -> int:
        return 0

    def get_error(self, index: int) -> _Error:
        raise IndexError(index)

    def refit_from_file(self, model: str) -> bool:
        loaded = onnx.load(model)
        onnx.external_data_helper.convert_model_from_external_data(loaded)
        self._given = {
            t.name: numpy_helper.to_array(t).tobytes() for t in loaded.graph.initializer
        }
        return self._put()

    def _put(self) -> bool:
        for tensor in self._engine.model.graph.initializer:
            if not tensor.raw_data and tensor.name in self._given:
                tensor.raw_data = self._given[tensor.name]
        return True


class _OnnxParserRefitter(_FileRefitter):
    """``OnnxParserRefitter`` from 10.13 on."""

    def load_model_proto(self, model: bytes, path: str) -> bool:
        assert Path(path).is_file()
        self._model = onnx.ModelProto.FromString(model)
        return True

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        names = {t.name for t in self._model.graph.initializer} if self._model else set()
        if name not in names:
            return False
        self._given[name] = ctypes.string_at(data, size)
        return True

    def refit_model_proto(self) -> bool:
        return self._put()
