"""Held against tritonclient, which writes requests and reads responses by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tritonclient.http as triton

from skipc.runtime import TensorSpec
from skipc.tools.serve.errors import RequestError
from skipc.tools.serve.protocol import (
    DATATYPES,
    Message,
    check_outputs,
    decoded,
    described,
    encoded,
    most_bytes,
)
from skipc.tools.serve.requests import Answered

RNG = np.random.default_rng(0)
INPUTS = (TensorSpec("x", "float32", ("N", 2)), TensorSpec("ids", "int64", ("N",)))
X = RNG.random((3, 2), np.float32)
IDS = np.array([1, -2, 3])


def _values(dtype):
    if dtype == "bool":
        return np.array([[True, False], [False, True]])
    if dtype.startswith("float"):
        return RNG.normal(size=(2, 2)).astype(dtype)
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max], [0, 1]], dtype)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("datatype", "dtype"), DATATYPES.items())
def test_tensors_of_every_type_come_and_go_as_they_are(datatype, dtype, binary):
    spec, array = TensorSpec("x", dtype, ("N", 2)), _values(dtype)
    given = triton.InferInput("x", array.shape, datatype)
    if dtype == "float16" and not binary:  # the client does not write it in JSON
        document = {"name": "x", "shape": [2, 2], "datatype": "FP16", "data": array.tolist()}
        body, length = json.dumps({"inputs": [document]}).encode(), None
    else:
        given.set_data_from_numpy(array, binary_data=binary)
        wanted = triton.InferRequestedOutput("y", binary_data=binary)
        body, length = triton.InferenceServerClient.generate_request_body(
            [given], outputs=[wanted], request_id="7"
        )
    request, arrays = decoded(Message(body, length), (spec,))
    np.testing.assert_array_equal(arrays["x"], array, strict=True)
    out = (TensorSpec("y", dtype, ("N", 2)),)
    answered = Answered({"y": array}, "full", 2, 1.5, True)
    message = encoded("net", request, answered, out)
    read = triton.InferenceServerClient.parse_response_body(
        message.body, header_length=message.json_bytes
    )
    assert (message.json_bytes is not None) == (binary and length is not None)
    response = read.get_response()
    assert response["model_name"] == "net"
    assert response["parameters"]["configuration"] == "full"
    if dtype == "float16" and not binary:  # nor read it
        found = np.array(response["outputs"][0]["data"], dtype).reshape(array.shape)
    else:
        assert response["id"] == "7"
        found = read.as_numpy("y")
    np.testing.assert_array_equal(found, array, strict=True)


def test_several_inputs_lie_behind_the_json_in_their_order():
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "ids",
                    "shape": [3],
                    "datatype": "INT64",
                    "parameters": {"binary_data_size": 24},
                },
                {
                    "name": "x",
                    "shape": [3, 2],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 24},
                },
            ]
        }
    ).encode()
    _, arrays = decoded(Message(head + IDS.tobytes() + X.tobytes(), len(head)), INPUTS)
    np.testing.assert_array_equal(arrays["ids"], IDS)
    np.testing.assert_array_equal(arrays["x"], X)
    assert all(array.flags.aligned for array in arrays.values())


def _tensor(**changed):
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5], **changed}
    return {key: value for key, value in tensor.items() if value is not None}


def _refused(document, behind=b"", length=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    length = len(body) if behind and length is None else length
    with pytest.raises(RequestError) as refused:
        decoded(Message(body + behind, length), INPUTS)
    assert refused.value.status == 400
    return str(refused.value)


SIZE_8 = {"binary_data_size": 8}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        ([], "expected an object"),
        ({}, "the key 'inputs' is missing"),
        ({"inputs": [_tensor()], "file": "x"}, "unknown key 'file'"),
        ({"inputs": [_tensor()], "parameters": {"priority": 1}}, "unknown key 'priority'"),
        ({"inputs": [_tensor()], "parameters": {"latency_ms": -1}}, "above zero"),
        ({"inputs": [_tensor(name="y")]}, "no input 'y'. Available: 'ids', 'x'."),
        ({"inputs": [_tensor(), _tensor()]}, "'x' is given twice"),
        ({"inputs": [_tensor(datatype="FP64")]}, "'x' is FP64, expected FP32"),
        ({"inputs": [_tensor(datatype="BYTES")]}, "'datatype' is 'BYTES'"),
        ({"inputs": [_tensor(shape=[2, -1])]}, "'shape"),
        ({"inputs": [_tensor(shape=[2**40, 2**40])]}, "has 2 values"),
        ({"inputs": [_tensor(data=[1])]}, "has 1 values; its shape [1, 2] needs 2"),
        ({"inputs": [_tensor(data=[1, "2"])]}, "are not all numbers"),
        ({"inputs": [_tensor(data=[[1], [2, 3]])]}, "are not all numbers"),
        ({"inputs": [_tensor(data=[1, 1e39])]}, "a value beyond FP32"),
        ({"inputs": [_tensor(data=[1, 2**70])]}, "are not all numbers"),
        ({"inputs": [_tensor(data="ab")]}, "has no data"),
        ({"inputs": [_tensor(data=None)]}, "has no data"),
        (
            {"inputs": [_tensor(name="ids", datatype="INT64", shape=[1], data=[0.5])]},
            "are not all whole numbers",
        ),
        ({"inputs": [_tensor(parameters=SIZE_8)]}, "both data and binary_data_size"),
        ({"inputs": [_tensor(data=None, parameters=SIZE_8)]}, "has 8 bytes, of which 0"),
        (
            {"inputs": [_tensor(parameters={"shared_memory_region": "a"})]},
            "unknown key 'shared_memory_region'",
        ),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(document, says):
    assert says in _refused(document)


def test_bytes_must_be_as_many_as_the_json_says():
    tensor = _tensor(data=None, parameters=SIZE_8)
    assert "has 4 bytes" in _refused(
        {"inputs": [_tensor(data=None, parameters={"binary_data_size": 4})]}, b"1234"
    )
    assert "but its JSON and inputs take" in _refused({"inputs": [tensor]}, b"123456789")
    assert "but the request has" in _refused({"inputs": [tensor]}, b"12345678", 10_000)


def test_a_byte_of_a_boolean_is_zero_or_one():
    spec = TensorSpec("b", "bool", (2,))
    tensor = {
        "name": "b",
        "shape": [2],
        "datatype": "BOOL",
        "parameters": {"binary_data_size": 2},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(RequestError, match="neither 0 nor 1"):
        decoded(Message(head + b"\x01\x02", len(head)), (spec,))


def test_an_output_that_json_cannot_hold_is_said_so():
    request, _ = decoded(Message(json.dumps({"inputs": [_tensor()]}).encode()), INPUTS)
    answered = Answered({"y": np.array([np.nan], np.float32)}, "full", 1, 1.0, True)
    with pytest.raises(RequestError, match="holds NaN or infinity") as refused:
        encoded("net", request, answered, (TensorSpec("y", "float32", (1,)),))
    assert refused.value.status == 500


def test_outputs_that_are_asked_for_must_be_there():
    document = {"inputs": [_tensor()], "outputs": [{"name": "z"}]}
    request, _ = decoded(Message(json.dumps(document).encode()), INPUTS)
    with pytest.raises(RequestError, match=r"no output 'z'. Available: 'y'."):
        check_outputs(request, (TensorSpec("y", "float32", (1,)),))


def test_free_dimensions_are_minus_one_in_the_metadata():
    assert described(INPUTS)[0] == {"name": "x", "datatype": "FP32", "shape": [-1, 2]}


def test_the_largest_request_is_by_the_largest_sizes():
    assert most_bytes(INPUTS, {"N": 100}) - most_bytes(INPUTS, {"N": 99}) == 3 * 32
