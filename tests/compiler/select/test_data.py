"""Labelled data: what is read, how it is split, and what is refused."""

from __future__ import annotations

import itertools
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from skipc.compiler.errors import SelectError
from skipc.compiler.recipes.clutter_data import MOST_PIECES, load_clutter
from skipc.compiler.recipes.digits_data import digit_images, load_digits
from skipc.compiler.select.data import (
    HEADS_PARTS,
    PARTS,
    POLICY_PARTS,
    Data,
    DataOptions,
    read_data,
    read_parts,
)
from skipc.compiler.select.metrics import check_outputs, find_metric
from skipc.compiler.select.samples import Parts, Samples
from skipc.runtime.bundle.tensors import TensorSpec

IMAGE = (TensorSpec("image", "float32", (1, 3, 6, 8)),)
LOGITS = (TensorSpec("logits", "float32", (1, 4)),)


def arrays(count=40):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 3, 6, 8)).astype(np.float32), np.arange(count) % 4


def npz(folder, **changed):
    x, y = arrays()
    np.savez(folder / "data.npz", **{"x": x, "y": y, **changed})
    return DataOptions(str(folder / "data.npz"))


def parts_of(data):
    return data.parts.reestimate, data.parts.selection, data.parts.report


def test_parts_are_disjoint_and_have_their_shares(tmp_path):
    x, _ = arrays()
    options = npz(tmp_path, x=x, y=np.arange(40))
    data = read_data(DataOptions(options.text, parts=(20, 30, 50)), IMAGE)
    targets = [set(part.targets.tolist()) for part in parts_of(data)]
    assert [len(part) for part in targets] == [8, 12, 20]
    assert set().union(*targets) == set(range(40))
    for part in parts_of(data):
        assert (part.inputs["image"] == x[part.targets]).all()


def test_samples_and_seed_choose(tmp_path):
    text = npz(tmp_path).text
    few = read_data(DataOptions(text, samples=20), IMAGE)
    assert sum(len(part) for part in parts_of(few)) == 20
    again = read_data(DataOptions(text, samples=20), IMAGE)
    other = read_data(DataOptions(text, samples=20, seed=1), IMAGE)
    assert few.sha256 == again.sha256 != other.sha256


def test_hash_depends_on_the_data(tmp_path):
    before = read_data(npz(tmp_path), IMAGE).sha256
    x, _ = arrays()
    x[3, 0, 0, 0] += 1
    assert read_data(npz(tmp_path, x=x), IMAGE).sha256 != before


def test_input_is_found_under_its_name(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "data.npz", image=x, y=y)
    assert len(read_data(DataOptions(str(tmp_path / "data.npz")), IMAGE).parts.report) == 16


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"x": (arrays()[0] * 9).astype(np.uint8)}, r"is uint8, the network takes float32"),
        ({"x": arrays()[0].astype(np.float64)}, "is float64"),
        ({"x": arrays()[0][:, :2]}, r"samples of shape \(2, 6, 8\), the network takes"),
        ({"x": arrays()[0][:39]}, "39 samples of the input 'image', but 40"),
        ({"x": arrays()[0] * np.float32("nan")}, "holds NaN"),
        ({"y": np.zeros(40, int)}, "one class every configuration is right"),
        ({"x": arrays()[0][:5], "y": np.arange(5) % 4}, "too few for 3 parts"),
        ({"y": np.array(3)}, "no dimension for the samples"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path, changed, fragment):
    with pytest.raises(SelectError, match=fragment):
        read_data(npz(tmp_path, **changed), IMAGE)


def test_options_without_effect_are_refused(tmp_path):
    for text in (npz(tmp_path).text, "digits", "mydata:batches"):
        with pytest.raises(SelectError, match="--mean and --std are for a folder of images"):
            read_data(DataOptions(text, mean=(0.1, 0.2, 0.3)), IMAGE)
    with pytest.raises(SelectError, match="--parts 30:30:40: digits has fixed parts"):
        read_data(DataOptions("digits", parts=(30, 30, 40)), IMAGE)


def test_missing_array_names_what_there_is(tmp_path):
    np.savez(tmp_path / "data.npz", x=arrays()[0], labels=arrays()[1])
    with pytest.raises(SelectError, match=r"no array named 'y'.*'labels'"):
        read_data(DataOptions(str(tmp_path / "data.npz")), IMAGE)


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([object()]), y=np.zeros(1))
    with pytest.raises(SelectError, match="holds Python objects"):
        read_data(DataOptions(str(tmp_path / "data.npz")), IMAGE)


def test_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xyz":
            archive.writestr(f"{name}.npy", b"0" * 1000)
    content = bytearray(path.read_bytes())
    # The sizes in the central directory: 9 GB would need the 64-bit form, 4 GB thrice do not.
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 24 : place + 28] = (0xFFFFFFFE).to_bytes(4, "little")
        place = content.find(b"PK\x01\x02", place + 1)
    path.write_bytes(content)
    with pytest.raises(SelectError, match=r"unpacks to 12\.9 GB, more than the 8\.6 GB"):
        read_data(DataOptions(str(path)), IMAGE)


# --- a folder of images


def folder(path, classes=("cat", "dog"), count=10, size=(12, 9)):
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(count):
            colour = (40 + 100 * label, 10 * number, 0)
            Image.new("RGB", size, colour).save(path / name / f"{number}.png")
    return DataOptions(str(path))


def test_folder_gives_images_by_class(tmp_path):
    data = read_data(folder(tmp_path / "images"), IMAGE)
    for part in parts_of(data):
        red = part.inputs["image"][:, 0, 0, 0]
        assert part.inputs["image"].shape[1:] == (3, 6, 8)
        assert np.allclose(red, (40 + 100 * part.targets) / 255, atol=1e-3)


def test_folders_in_another_order_than_their_numbers_are_told_with_the_mapping(tmp_path):
    notes = []
    for names, count in (([str(n) for n in range(12)], 1), (["01", "02", "10"], 0)):
        options = folder(tmp_path / f"{len(names)}", names, count=3)
        data = read_data(options, IMAGE, notes.append)
        assert data.classes == tuple(sorted(names))
        assert len(notes) == count
        notes, told = [], notes
        if count:
            assert (
                "label 2 is '10', not '2', 3 is '11', not '3', 4 is '2', not '4', …" in told[0]
            )


def test_parts_of_a_data_set_are_no_classes(tmp_path):
    for part in ("train", "val"):
        folder(tmp_path / "set" / part)
    with pytest.raises(SelectError, match=r"'train' and 'val' are parts .* --data .*/val"):
        read_data(DataOptions(str(tmp_path / "set")), IMAGE)
    # Classes may be called so: vehicles.
    assert len(read_data(folder(tmp_path / "v", ("car", "train")), IMAGE).classes) == 2


def test_folder_is_normalised_as_told(tmp_path):
    options = folder(tmp_path / "images")
    plain = read_data(options, IMAGE).parts.report
    told = DataOptions(options.text, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    found = read_data(told, IMAGE).parts.report
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (told.mean, told.std))
    expected = (plain.inputs["image"] - mean) / std
    assert np.allclose(found.inputs["image"], expected, atol=1e-6)


def test_empty_folder_and_loose_images_are_told_apart(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SelectError, match="is empty"):
        read_data(DataOptions(str(tmp_path / "empty")), IMAGE)
    Image.new("RGB", (4, 4)).save(tmp_path / "loose.png")
    (tmp_path / "empty").rmdir()
    with pytest.raises(SelectError, match="no folder per class"):
        read_data(DataOptions(str(tmp_path)), IMAGE)


def test_unreadable_image_is_named(tmp_path):
    options = folder(tmp_path / "images")
    (tmp_path / "images" / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(SelectError, match=r"3\.png cannot be read"):
        read_data(options, IMAGE)


def test_folder_without_images_and_missing_folder_are_named(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    with pytest.raises(SelectError, match="no images in its 1 folders"):
        read_data(DataOptions(str(tmp_path / "images")), IMAGE)
    with pytest.raises(SelectError, match=r"the folder .*nowhere does not exist"):
        read_data(DataOptions(str(tmp_path / "nowhere")), IMAGE)


def test_folder_wants_an_image_network(tmp_path):
    options = folder(tmp_path / "images")
    with pytest.raises(SelectError, match="one input of shape"):
        read_data(options, (TensorSpec("x", "float32", (1, 7)),))
    with pytest.raises(SelectError, match="--mean: 2 numbers for 3 channels"):
        read_data(DataOptions(options.text, mean=(0.1, 0.2)), IMAGE)


# --- a function


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Returns the options for a module with the given body of a function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(body):
        name = f"given{abs(hash(body))}"
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        text = (
            f"import numpy as np\nX = np.ones((8, 3, 6, 8), np.float32)\ndef f():\n{lines}\n"
        )
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return DataOptions(f"{name}:f", samples=30)

    return make


def test_function_is_read_until_there_is_enough(function):
    options = function("i = 0\nwhile True:\n    yield X * i, np.arange(8)\n    i += 1")
    data = read_data(options, IMAGE)
    assert sum(len(part) for part in parts_of(data)) == 30


def test_function_may_yield_inputs_by_name(function):
    options = function("for i in range(5):\n    yield {'image': X}, np.arange(8)")
    assert len(read_data(options, IMAGE).parts.report) == 12


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ("yield X, np.arange(8)\nraise OSError('unplugged')",
         r"failed after 1 batches in given.*py, line 5: OSError: unplugged"),
        ("return 3", "returned int"),
        ("if 0: yield", "yielded no samples"),
        ("yield X", "Yield \\(inputs, targets\\)"),
        ("yield X, np.arange(7)", "differ in length"),
        ("yield {'x': X}, np.arange(8)", "no input 'image'"),
        ("yield X, np.arange(8)\nyield X[:, :2], np.arange(8)", "do not fit together"),
    ],
)  # fmt: skip
def test_function_that_goes_wrong_says_where(function, body, fragment):
    with pytest.raises(SelectError, match=fragment):
        read_data(function(body), IMAGE)


def test_unknown_module_and_function_are_named(function):
    text = function("yield X, np.arange(8)").text
    with pytest.raises(SelectError, match="there is no module 'nowhere'"):
        read_data(DataOptions("nowhere:f"), IMAGE)
    with pytest.raises(SelectError, match=r"has no 'g'.*'f'"):
        read_data(DataOptions(text.replace(":f", ":g")), IMAGE)


# --- digits and metrics


def test_digits_report_on_nothing_that_is_trained_on():
    digits = load_digits()
    data = read_data(DataOptions("digits"), (TensorSpec("images", "float32", (1, 1, 8, 8)),))
    assert (data.parts.report.inputs["images"] == digits.report.images).all()
    trained = {image.tobytes() for image in digits.train.images}
    kept = {image.tobytes() for image in data.parts.reestimate.inputs["images"]}
    reported = {image.tobytes() for image in data.parts.report.inputs["images"]}
    assert kept <= trained
    assert not reported & trained
    assert len(digits.train.labels) + len(digits.selection.labels) + len(reported) == 1797


def test_top1_counts_and_knows_its_floor():
    samples = Samples({}, np.array([0, 1, 1, 1]))
    metric = find_metric("top1", samples)
    logits = np.eye(4, dtype=np.float32)[[0, 1, 1, 2]]
    assert metric.score({"logits": logits}, samples.targets) == 0.75
    assert metric.floor == 0.75


@pytest.mark.parametrize(
    ("targets", "outputs", "fragment"),
    [
        (np.array([0, 4]), LOGITS, "label 4 is outside the network's 4 outputs"),
        (np.array([0, -1]), LOGITS, "label -1 is outside"),
        (np.array([0.5, 1.0]), LOGITS, "whole numbers, one per sample"),
        (np.array([[0], [1]]), LOGITS, "whole numbers, one per sample"),
        (np.array([0, 1]), (TensorSpec("y", "float32", (1, 4, 2, 2)),), "one output of shape"),
        (np.array([0, 1]), LOGITS * 2, "one output of shape"),
    ],
)
def test_top1_refuses_what_it_does_not_fit(targets, outputs, fragment):
    samples = Samples({}, targets)
    data = Data(Parts(samples, samples, samples), "", "images")

    def checked():
        check_outputs(find_metric("top1", samples), data, outputs)

    with pytest.raises(SelectError, match=fragment):
        checked()


def test_metric_of_ones_own_that_fails_says_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = "def good(o, t): return 0.5\ndef bad(o, t): return 1 / 0\ndef none(o, t): pass\n"
    (tmp_path / "own_metric.py").write_text(text, encoding="utf-8")
    scored = {
        name: find_metric(f"own_metric:{name}", Samples({}, np.zeros(1))).score
        for name in ("good", "bad", "none")
    }
    outputs = {"logits": np.zeros((1, 4))}
    assert scored["good"](outputs, np.zeros(1)) == 0.5
    with pytest.raises(SelectError, match=r"in own_metric.py, line 2: ZeroDivisionError"):
        scored["bad"](outputs, np.zeros(1))
    with pytest.raises(SelectError, match="returned NoneType"):
        scored["none"](outputs, np.zeros(1))


def test_the_digits_of_heads_and_policies_are_disjoint():
    spec = (TensorSpec("images", "float32", (1, 1, 8, 8)),)
    train, selection, report = read_parts(DataOptions("digits", parts=HEADS_PARTS), spec)
    assert [len(part) for part in (train, selection, report)] == [1078, 359, 360]
    four = read_parts(DataOptions("digits", parts=POLICY_PARTS), spec)
    assert [len(part) for part in four] == [215, 144, 216, 144]
    held_out = np.concatenate([part.inputs["images"] for part in (selection, report)])
    cut = np.concatenate([part.inputs["images"] for part in four])
    np.testing.assert_array_equal(cut, held_out)


def test_clutter_gives_each_command_its_parts():
    spec = (TensorSpec("images", "float32", (1, 1, 32, 32)),)
    clutter = load_clutter()
    assert load_clutter() is clutter  # made once
    given = {
        shares: read_parts(DataOptions("clutter", 20000, parts=shares), spec)
        for shares in (PARTS, HEADS_PARTS, POLICY_PARTS)
    }
    assert [len(part) for part in given[PARTS]] == [2000, 2000, 5000]
    assert [len(part) for part in given[HEADS_PARTS]] == [10000, 2000, 5000]
    assert [len(part) for part in given[POLICY_PARTS]] == [5000, 2000, 5000, 5000]
    for parts in given.values():
        assert (parts[-1].inputs["images"] == clutter.report.images).all()
    limited = read_parts(DataOptions("clutter", 300, parts=POLICY_PARTS), spec)
    assert [len(part) for part in limited] == [300] * 4
    with pytest.raises(SelectError, match="--parts 1:1: clutter has fixed parts"):
        read_parts(DataOptions("clutter", parts=(1, 1)), spec)


def test_no_digit_is_in_two_parts_of_clutter():
    images, labels = digit_images()
    doubled = np.kron(images, np.ones((2, 2), np.float32)).reshape(len(images), -1)
    clutter = load_clutter()
    found = []
    for part in (clutter.train, *clutter.policy):
        assert set(part.difficulty) == set(range(MOST_PIECES + 1))
        assert set(part.labels) == set(range(10))
        alone = np.flatnonzero(part.difficulty == 0)[:6]
        found.append([_shown(part.images[row, 0], doubled) for row in alone])
        assert (labels[found[-1]] == part.labels[alone]).all()
    # Each part has a stretch of the digits of its own, in this order of the parts.
    train, fitting, selection, calibration, report = found
    ordered = [train, selection, fitting, calibration, report]
    assert all(max(one) < min(next_) for one, next_ in itertools.pairwise(ordered))


def _shown(picture, doubled):
    """Returns the number of the digit that is nearest to any square of the picture."""
    squares = np.lib.stride_tricks.sliding_window_view(picture, (16, 16)).reshape(-1, 256)
    far = (squares**2).sum(1)[:, None] - 2 * squares @ doubled.T + (doubled**2).sum(1)
    return int(far.min(0).argmin())


def test_any_number_of_parts_is_cut(tmp_path):
    images = np.arange(40, dtype=np.float32).reshape(40, 1)
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(40) % 2)
    options = DataOptions(str(tmp_path / "data.npz"), parts=(1, 2, 3, 4))
    parts = read_parts(options, (TensorSpec("x", "float32", (1, 1)),))
    assert [len(part) for part in parts] == [4, 8, 12, 16]
    seen = np.concatenate([part.inputs["x"] for part in parts])
    assert sorted(seen.ravel()) == list(range(40))
