"""The classes of TensorRT that skipc uses, over a ``FakeDevice``; engines run their graph.

A plan is the graph as JSON, with its weights or, stripped, without them. Running an engine
is an operation on a stream that runs the graph in ONNX Runtime on what the device's memory
holds by then. Workspace is scribbled over, so that engines that share it while both run
spoil each other.
"""

from __future__ import annotations

import base64
import ctypes
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from tests.doubles.device import FailureError, OutOfMemoryError
from tests.doubles.tensorrt_build import (
    BuilderFlag,
    ExecutionContextAllocationStrategy,
    ILogger,
    IProgressMonitor,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    TensorIOMode,
    TensorLocation,
    _Builder,
    _Cache,
    _Config,
    _Error,
    _Network,
    _OnnxParser,
    _OptimizationProfile,
    _Severity,
    _tensor,
)

__all__ = ["FakeTensorRT", "_Cache", "_Config", "_Network", "_OptimizationProfile"]

if TYPE_CHECKING:
    from tests.doubles.device import FakeDevice

_IDS = itertools.count(1)
_CONTEXT_BYTES = 500


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

    def refit_from_bytes(self, model: bytes, path: str) -> bool:
        loaded = onnx.ModelProto.FromString(model)
        onnx.load_external_data_for_model(loaded, str(Path(path).parent))
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
        assert Path(path).parent.is_dir()
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
