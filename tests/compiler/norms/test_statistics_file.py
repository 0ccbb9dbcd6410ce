"""The statistics beside a front: what is written is read, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.errors import FrontError
from skipc.compiler.front import Front, FrontEntry, read_front, write_front
from skipc.compiler.front_files import StatisticsFile
from skipc.compiler.norms.of_front import norms_of_front, read_statistics, write_statistics
from skipc.compiler.norms.statistics import FamilyNorms, NormMode, NormStatistics
from skipc.runtime.bundle.folder import file_sha256

MEAN = np.array([1, 2], np.float32)
VARIANCE = np.array([3, 4], np.float32)
NORMS = FamilyNorms(
    NormMode.SCALAR,
    {"layer1.bn": NormStatistics(MEAN, VARIANCE)},
    {
        "full": {"layer1.bn": NormStatistics(MEAN, VARIANCE, 1.0)},
        "fast": {
            "layer1.bn": NormStatistics(VARIANCE, VARIANCE, 1 / 3),
            "a/b#2": NormStatistics(MEAN, MEAN),
        },
    },
)


def test_statistics_read_are_those_written(tmp_path):
    path = tmp_path / "front.norms.npz"
    write_statistics(path, NORMS)
    found = read_statistics(path, NormMode.SCALAR)
    assert found.configurations.keys() == {"full", "fast"}
    fast = found.configurations["fast"]
    assert fast["layer1.bn"].scale == 1 / 3
    assert (fast["layer1.bn"].variance == VARIANCE).all()
    assert (fast["layer1.bn"].mean == VARIANCE).all()
    assert (fast["a/b#2"].variance == MEAN).all()
    assert (found.base["layer1.bn"].variance == VARIANCE).all()


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"nonsense": MEAN}, "is not named"),
        ({"a/bn/median": MEAN}, "is not named"),
        ({"a/bn/mean": MEAN}, "needs either 'variance' or 'scale'"),
        ({"a/bn/mean": MEAN, "a/bn/variance": MEAN, "a/bn/scale": np.float64(1)}, "either"),
        ({"a/bn/mean": MEAN, "a/bn/variance": VARIANCE[:1]}, "one entry per channel"),
        ({"a/bn/mean": MEAN.astype(np.float64), "a/bn/variance": VARIANCE}, "float32"),
        ({"a/bn/mean": MEAN[:, None], "a/bn/variance": VARIANCE}, "one entry per channel"),
        ({"a/bn/mean": MEAN * np.float32("nan"), "a/bn/variance": VARIANCE}, "not finite"),
        ({"a/bn/mean": MEAN, "a/bn/scale": np.float64(0)}, "positive"),
        ({"a/bn/mean": MEAN, "a/bn/scale": np.float64("inf")}, "positive"),
        ({"a/bn/mean": MEAN, "a/bn/scale": np.ones(2)}, "one positive float64"),
        ({"a/bn/mean": MEAN, "a/bn/scale": np.float64(2)}, "no base statistics"),
    ],
)
def test_malformed_statistics_are_refused(tmp_path, arrays, fragment):
    path = tmp_path / "front.norms.npz"
    write_arrays(path, {name: np.asarray(array) for name, array in arrays.items()})
    with pytest.raises(FrontError, match=fragment):
        read_statistics(path, NormMode.SCALAR)


def test_statistics_with_python_objects_are_refused(tmp_path):
    path = tmp_path / "front.norms.npz"
    np.savez(path, a=np.array([object()]))
    with pytest.raises(FrontError, match="Python objects"):
        read_statistics(path, NormMode.FULL)


@pytest.fixture
def front(tmp_path):
    """A front with statistics, and the checkpoint they were estimated for."""
    checkpoint = tmp_path / "ckpt.pt"
    checkpoint.write_bytes(b"weights")
    write_statistics(tmp_path / "front.norms.npz", NORMS)
    made = Front(
        (FrontEntry("full"), FrontEntry("fast", {"skip": ["layer1"]})),
        norm=NormMode.SCALAR,
        statistics=StatisticsFile(
            "front.norms.npz", file_sha256(tmp_path / "front.norms.npz")
        ),
        provenance={"checkpoint_sha256": file_sha256(checkpoint)},
    )
    write_front(tmp_path / "front.json", made)
    return tmp_path / "front.json", checkpoint


def test_front_read_is_the_front_written(front):
    path, checkpoint = front
    found = read_front(path)
    assert found.norm is NormMode.SCALAR
    norms = norms_of_front(path, found.of(""), checkpoint)
    assert norms.configurations.keys() == {"full", "fast"}


def test_altered_statistics_are_refused(front):
    path, checkpoint = front
    with (path.parent / "front.norms.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FrontError, match="altered, or of another front"):
        norms_of_front(path, read_front(path).of(""), checkpoint)


def test_missing_statistics_are_named(front):
    path, checkpoint = front
    (path.parent / "front.norms.npz").unlink()
    with pytest.raises(FrontError, match=r"norms\.npz: there is no such file.*Copy both"):
        norms_of_front(path, read_front(path).of(""), checkpoint)


def test_statistics_of_other_weights_are_refused(front):
    path, checkpoint = front
    checkpoint.write_bytes(b"other weights")
    with pytest.raises(FrontError, match="estimated for other weights"):
        norms_of_front(path, read_front(path).of(""), checkpoint)


@pytest.mark.parametrize("name", ["../x.npz", "/x.npz", "a/x.npz", "..", "a\\\\x.npz"])
def test_statistics_outside_the_fronts_folder_are_refused(front, name):
    path, _ = front
    text = path.read_text().replace('"front.norms.npz"', f'"{name}"')
    path.write_text(text)
    with pytest.raises(FrontError, match="must be the name of a file beside the front"):
        read_front(path)


def test_unknown_norm_names_the_nearest(front):
    path, _ = front
    path.write_text(path.read_text().replace('"scalar"', '"scaler"'))
    with pytest.raises(FrontError, match=r"'norm' is 'scaler'.*'scalar'"):
        read_front(path)


def test_norm_without_statistics_is_refused(front):
    path, checkpoint = front
    made = Front((FrontEntry("full"),), norm=NormMode.FULL)
    with pytest.raises(FrontError, match=r"there are no 'statistics'.*skipc select"):
        norms_of_front(path, made.of(""), checkpoint)
