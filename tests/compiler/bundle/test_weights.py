"""The weight store: each distinct tensor once, on a page of its own."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.compiler.bundle.blobs import PAGE_BYTES
from skipc.compiler.bundle.weights import INLINE_BELOW_BYTES, WeightStoreWriter
from tests.zoo import exported, pruned


def tensor(*numbers: float, repeat: int = 100) -> ir.Tensor:
    return ir.tensor(np.asarray(numbers * repeat, np.float32))


def test_equal_bytes_are_stored_once_whatever_their_name_or_shape(tmp_path):
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        first = store.add(tensor(1.0, 2.0))
        again = store.add(tensor(1.0, 2.0))
        reshaped = store.add(
            ir.tensor(np.asarray([1.0, 2.0] * 100, np.float32).reshape(2, 100))
        )
        other = store.add(tensor(2.0, 1.0))
    assert first == again == reshaped
    assert store.tensors == (first, other)


def test_size_counts_each_tensor_without_padding(tmp_path):
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        keys = frozenset(store.add(tensor(x)).sha256 for x in (1.0, 2.0, 1.0))
    assert store.size_bytes(keys) == 800


def test_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(FileExistsError), WeightStoreWriter(tmp_path / "weights.bin"):
        pass


@given(contents=st.lists(st.binary(min_size=1, max_size=9000), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_tensor_is_found_again_on_its_page(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "weights.bin"
    with WeightStoreWriter(path) as store:
        places = [store.add(ir.tensor(np.frombuffer(data, np.uint8))) for data in contents]
    stored = path.read_bytes()
    for data, place in zip(contents, places, strict=True):
        assert place.offset_bytes % PAGE_BYTES == 0
        assert stored[place.offset_bytes :][: place.size_bytes] == data
        assert place.sha256 == hashlib.sha256(data).hexdigest()
    assert len(store.tensors) == len(set(contents))
    for before, after in pairwise(store.tensors):
        assert before.offset_bytes + before.size_bytes <= after.offset_bytes
    last = store.tensors[-1]
    assert len(stored) == last.offset_bytes + last.size_bytes


@pytest.mark.parametrize("name", ["torchvision-resnet", "vit", "bert"])
def test_onnx_opens_the_graphs_with_the_weights_they_had(name, tmp_path):
    graph, search = exported(name)
    subnets = [pruned(graph.model, skipped) for skipped in ((), search.units)]
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        stored = [store.store(subnet) for subnet in subnets]
        for number, subnet in enumerate(subnets):
            ir.save(subnet, tmp_path / f"{number}.onnx")
    assert stored[1] < stored[0]
    originals = graph.model.graph.initializers
    for number in (0, 1):
        model = onnx.load(tmp_path / f"{number}.onnx")
        for found in model.graph.initializer:
            expected = originals[found.name].const_value
            assert expected is not None
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(found), expected.numpy())


def test_small_tensors_stay_in_the_graph(tmp_path):
    graph, _ = exported("vit")
    subnet = pruned(graph.model, ())
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        store.store(subnet)
    for value in subnet.graph.initializers.values():
        assert value.const_value is not None
        outside = isinstance(value.const_value, ir.ExternalTensor)
        assert outside == (value.const_value.nbytes >= INLINE_BELOW_BYTES)


def test_tied_weights_are_stored_once(tmp_path):
    graph, search = exported("tied")
    subnet = pruned(graph.model, search.units[:1])
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        both = store.store(pruned(graph.model, ()))
        one = store.store(subnet)
    assert one == both
