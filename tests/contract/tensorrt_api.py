"""What skipc uses of NVIDIA's Python libraries, name by name.

``CLASSES`` lists methods with the parameters that skipc passes by position (without
``self``), attributes as None, and enumerators in ``ENUMERATORS``. What only some versions
have is in ``GUARDED``, with the versions that lack it; the code asks before it uses them.
``test_tensorrt_contract`` checks the tables against the real bindings and against the code.
"""

from __future__ import annotations

CLASSES: dict[str, dict[str, int | None]] = {
    "Builder": {
        "__init__": 1,
        "create_network": 1,
        "create_builder_config": 0,
        "create_optimization_profile": 0,
        "build_serialized_network": 2,
    },
    "INetworkDefinition": {
        "num_inputs": None,
        "num_outputs": None,
        "get_input": 1,
        "get_output": 1,
    },
    "ITensor": {"name": None, "shape": None, "dtype": None, "get_dimension_name": 1},
    "IOptimizationProfile": {"set_shape": 4},
    "IBuilderConfig": {
        "set_flag": 1,
        "set_memory_pool_limit": 2,
        "builder_optimization_level": None,
        "add_optimization_profile": 1,
        "create_timing_cache": 1,
        "set_timing_cache": 2,
        "get_timing_cache": 0,
        "progress_monitor": None,
    },
    "ITimingCache": {"serialize": 0},
    "IProgressMonitor": {
        "__init__": 0,
        "phase_start": 3,
        "step_complete": 2,
        "phase_finish": 1,
    },
    "ILogger": {"__init__": 0, "log": 2},
    "OnnxParser": {"__init__": 2, "parse": 2, "num_errors": None, "get_error": 1},
    "ParserError": {"desc": 0, "node_name": 0, "node_operator": 0},
    "Runtime": {"__init__": 1, "deserialize_cuda_engine": 1},
    "ICudaEngine": {
        "refittable": None,
        "device_memory_size_v2": None,
        "num_io_tensors": None,
        "get_tensor_name": 1,
        "get_tensor_mode": 1,
        "get_tensor_dtype": 1,
        "get_tensor_shape": 1,
        "get_tensor_location": 1,
        "create_execution_context": 1,
    },
    "IExecutionContext": {
        "set_device_memory": 2,
        "set_input_shape": 2,
        "set_tensor_address": 2,
        "execute_async_v3": 1,
    },
    "Refitter": {"__init__": 2, "get_missing_weights": 0, "refit_cuda_engine": 0},
    "OnnxParserRefitter": {
        "__init__": 2,
        "refit_from_bytes": 2,
        "num_errors": None,
        "get_error": 1,
    },
}

ENUMERATORS: dict[str, tuple[str, ...]] = {
    "ILogger.Severity": ("INTERNAL_ERROR", "ERROR", "WARNING"),
    "BuilderFlag": ("STRIP_PLAN", "REFIT_IDENTICAL"),
    "MemoryPoolType": ("WORKSPACE",),
    "TensorIOMode": ("INPUT",),
    "TensorLocation": ("DEVICE",),
    "ExecutionContextAllocationStrategy": ("USER_MANAGED",),
}

FUNCTIONS = ("nptype",)

GUARDED: dict[str, dict[str, int | None]] = {
    # asked for with hasattr; 10.3 reads the files instead
    "OnnxParserRefitter": {
        "load_model_proto": 2,
        "load_initializer": 3,
        "refit_model_proto": 0,
    },
    # asked for with getattr; 11 types every network strongly
    "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED": None},
    # TensorRT-RTX alone, for engines built ahead
    "IBuilderConfig": {"num_compute_capabilities": None, "set_compute_capability": 2},
    "ComputeCapability": {},
    "IExecutionContext": {"is_stream_capturable": 1},
    "BuilderFlag": {"REQUIRE_USER_ALLOCATION": None},
}

LACKING: dict[str, frozenset[str]] = {
    "OnnxParserRefitter.load_model_proto": frozenset({"10.3.0"}),
    "OnnxParserRefitter.load_initializer": frozenset({"10.3.0"}),
    "OnnxParserRefitter.refit_model_proto": frozenset({"10.3.0"}),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": frozenset(),
    "IExecutionContext.is_stream_capturable": frozenset(
        {"10.3.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"}
    ),
    "BuilderFlag.REQUIRE_USER_ALLOCATION": frozenset(
        {"10.3.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"}
    ),
    "IBuilderConfig.num_compute_capabilities": frozenset(
        {"10.3.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"}
    ),
    "IBuilderConfig.set_compute_capability": frozenset(
        {"10.3.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"}
    ),
}

CUDA_FUNCTIONS: dict[str, int] = {
    "cudaGetDeviceCount": 0,
    "cudaGetDevice": 0,
    "cudaSetDevice": 1,
    "cudaGetLastError": 0,
    "cudaGetDeviceProperties": 1,
    "cudaMemGetInfo": 0,
    "cudaMalloc": 1,
    "cudaFree": 1,
    "cudaMallocHost": 1,
    "cudaFreeHost": 1,
    "cudaMemcpyAsync": 5,
    "cudaStreamCreateWithFlags": 1,
    "cudaStreamDestroy": 1,
    "cudaStreamSynchronize": 1,
    "cudaEventCreateWithFlags": 1,
    "cudaEventRecord": 2,
    "cudaStreamWaitEvent": 3,
    "cudaEventSynchronize": 1,
    "cudaEventElapsedTime": 2,
    "cudaEventDestroy": 1,
    "cudaStreamBeginCapture": 2,
    "cudaStreamEndCapture": 1,
    "cudaGraphGetNodes": 1,
    "cudaGraphInstantiate": 2,
    "cudaGraphDestroy": 1,
    "cudaGraphLaunch": 2,
    "cudaGraphExecDestroy": 1,
}

CUDA_NAMES = (
    "cudaError_t.cudaSuccess",
    "cudaError_t.cudaErrorMemoryAllocation",
    "cudaError_t.cudaErrorInsufficientDriver",
    "cudaMemcpyKind.cudaMemcpyHostToDevice",
    "cudaMemcpyKind.cudaMemcpyDeviceToHost",
    "cudaMemcpyKind.cudaMemcpyDeviceToDevice",
    "cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal",
    "cudaStreamNonBlocking",
    "cudaEventDefault",
    "cudaEventBlockingSync",
    "cudaEventDisableTiming",
)
