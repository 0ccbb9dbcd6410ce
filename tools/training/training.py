"""Training as a whole: epochs, mixed precision, resuming, the log."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from skipc.compiler.gates import write_gates
from skipc.compiler.heads import write_heads
from skipc.compiler.read.factories import build_named
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.read.switching import SwitchingNetwork
from skipc.compiler.select.data.sketch import KEPT, sketch_of
from skipc.compiler.select.samples import Samples
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.training import TrainError
from skipc.tools.training.bit_errors import damaged, narrow
from skipc.tools.training.early_exits import EarlyExits
from skipc.tools.training.gated_networks import GatedResNet
from skipc.tools.training.gates import evaluated, fixed_share, set_bias
from skipc.tools.training.images import augmented
from skipc.tools.training.losses import EARLY_EXIT, GATES, RECIPES
from skipc.tools.training.resolutions import at_resolutions, check_resolutions
from skipc.tools.training.state import LAST_FILE, Log, Row, load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.gates import Gates
    from skipc.compiler.heads import Head
    from skipc.tools.training.bit_errors import BitErrors
    from skipc.tools.training.gates import Evaluated
    from skipc.tools.training.images import Images, TrainingData
    from skipc.tools.training.losses import Recipe
    from skipc.tools.training.state import Stateful

    Progress = Callable[[int, int], None]

CHECKPOINT_FILE = "ckpt.pt"
_HELD_OUT_BATCH = 256
_GATES_FASTER = 5.0
_LEAST_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    Attributes:
        recipe: ``stochastic-depth``, ``sub-paths``, ``early-exit`` or ``gates``.
        arguments: The network's; those that the data gives are added.
        rate: Highest learning rate; it rises and falls once over the training.
        weight_decay: Of AdamW; norms and biases have none.
        seed: Of weights, order, augmentation and what is dropped.
        precision: ``fp32``, ``fp16`` or ``bf16`` (mixed).
        threads: PyTorch's threads; None for its own choice.
        heads: How many are trained along by ``early-exit``.
        target: The part of the network's operations that ``gates`` are to let run.
        channels: In how many parts of its channels they let a branch run at most.
        resolutions: Heights that images are brought to, too, in every step.
        bit_errors: Memory errors that weights have in every step; None for none.
    """

    recipe: str = "stochastic-depth"
    network: str = "resnet"
    arguments: Mapping[str, object] = field(default_factory=dict)
    epochs: int = 40
    batch: int = 64
    rate: float = 5e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = 1
    heads: int = 3
    target: float = 0.25
    channels: int = 1
    resolutions: tuple[int, ...] = ()
    bit_errors: BitErrors | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """How it ended.

    Attributes:
        checkpoint: The file.
        accuracy: On the held-out images.
        base_accuracy: The same with everything skipped; None for networks that do not switch.
        heads: The heads that were trained along, in network order.
        gated: With gates that were trained along deciding; None without.
    """

    checkpoint: Path
    accuracy: float
    base_accuracy: float | None
    heads: tuple[Head, ...] = ()
    gated: Evaluated | None = None


def train(
    data: TrainingData,
    options: TrainOptions,
    out: Path,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
) -> Trained:
    """Trains, and writes ``ckpt.pt``, ``log.csv`` and what resuming needs into ``out``.

    Heads that are trained along lie beside the checkpoint. Every epoch ends with all of it on
    disk. On a CPU the same seed gives the same weights, resumed or not.

    Args:
        data: What to train on.
        options: How.
        out: The folder, made where it is missing.
        resume: Go on where a run in ``out`` was interrupted.
        progress: Told after each step: how many, of how many.

    Raises:
        TrainError: The options do not fit the data or the network, the loss is not finite, or
            what is to be resumed is another run.
    """
    recipe = RECIPES[options.recipe]
    device = _device(options)
    torch.manual_seed(options.seed)
    arguments = {**_data_arguments(data, options.network), **options.arguments}
    said = ("--network", "--network-arg")
    network = build_named(f"skipc:{options.network}", arguments, said).module.to(device)
    recipe.check(network)
    check_resolutions(network, options.resolutions, data.shape)
    model = network
    if options.recipe == EARLY_EXIT:
        model = EarlyExits(network, options.heads, data.shape)
    elif options.recipe == GATES:
        model = _gated(network, options, data.shape)
    run = _Run(model, recipe, data, options, device)
    out.mkdir(parents=True, exist_ok=True)
    identity = {**asdict(options), "arguments": arguments, "images": len(data.train.labels)}
    identity.pop("device")
    start = load_state(out / LAST_FILE, run.parts, identity) if resume else 0
    convention = options.arguments.get("convention", "inverted")
    log, per_epoch = Log(out / "log.csv", keep=start), run.steps_per_epoch
    reached: HeldOut | None = None
    # Heads and gates are set by what was held out, too.
    trained_on, set_on = _sketch(data.train), _sketch(data.train, data.held_out)
    with _threads(options.threads):
        for epoch in range(start, options.epochs):
            begun_s = time.monotonic()
            losses = []
            for step, loss in enumerate(run.epoch(epoch), start=1):
                losses.append(loss)
                progress(epoch * per_epoch + step, options.epochs * per_epoch)
            reached = run.held_out(last=epoch + 1 == options.epochs)
            taken_s = time.monotonic() - begun_s
            base = float("nan") if reached.base_accuracy is None else reached.base_accuracy
            mean = float(np.mean(losses))
            log.add(Row(epoch + 1, mean, reached.accuracy, base, run.rate, taken_s))
            checkpoint = CheckpointFile(
                model=f"skipc:{options.network}",
                arguments=arguments,
                state_dict=network.state_dict(),
                inputs=(TensorSpec("images", "float32", (1, *data.shape)),),
                residual_scale="original" if convention == "original" else "inverted",
                accuracy=reached.accuracy,
                data_sketch=trained_on,
            )
            save_checkpoint(out / CHECKPOINT_FILE, checkpoint)
            if reached.heads:
                write_heads(out / CHECKPOINT_FILE, reached.heads, set_on)
            if reached.gates is not None:
                write_gates(out / CHECKPOINT_FILE, reached.gates, set_on)
            save_state(out / LAST_FILE, epoch + 1, run.parts, identity)
        if reached is None:  # all epochs were done before
            reached = run.held_out(last=True)
    path = out / CHECKPOINT_FILE
    return Trained(path, reached.accuracy, reached.base_accuracy, reached.heads, reached.gated)


def _layout(model: nn.Module) -> torch.memory_format:
    """Returns channels last, in which convolutions take a sixth less time, where it is safe.

    oneDNN, which computes them, writes past its memory in the backward pass of convolutions of
    1x1 with a stride and few channels where the processor has AVX2 alone (its issue 6035).
    """
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    fails = any(
        each.kernel_size == (1, 1)
        and each.stride != (1, 1)
        and each.in_channels < _LEAST_CHANNELS
        for each in convolutions
    )
    return torch.contiguous_format if fails else torch.channels_last


def _sketch(*parts: Images) -> str:
    """Returns the sketch of images drawn from parts of the data."""
    drawn = []
    for part in parts:
        rows = np.random.default_rng(0).permutation(len(part.labels))[:KEPT]
        drawn.append(Samples({"images": part.take(rows)}, part.labels[rows]))
    return sketch_of(drawn)


def _gated(
    network: nn.Module, options: TrainOptions, shape: tuple[int, int, int]
) -> GatedResNet:
    """Returns a network with gates; refuses a target that no gates reach."""
    model = GatedResNet(network, shape, options.channels)
    if options.channels > model.most_parts:
        raise TrainError(
            f"--channels {options.channels}: no branch has more than {model.most_parts} parts"
            " of 4 channels, or of 16 from 32 on, the blocks that engines compute in. Give at"
            f" most {model.most_parts}, or larger --network-arg widths."
        )
    always = fixed_share(model)
    if not always < options.target < 1:
        raise TrainError(
            f"--target {options.target:g}: {always:.2f} of the network's operations always"
            " run, whatever gates say. Give a number between that and 1."
        )
    return model


class HeldOut(NamedTuple):
    """What a model reaches on the held-out images; see ``Trained``.

    ``gates`` are those that ``gated`` was reached with.
    """

    accuracy: float
    base_accuracy: float | None
    heads: tuple[Head, ...]
    gated: Evaluated | None = None
    gates: Gates | None = None


class _Run:
    """A model with its optimiser, over batches in a seeded order."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: TrainingData,
        options: TrainOptions,
        device: torch.device,
    ) -> None:
        self._layout = _layout(model)
        self._model = model.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._recipe = recipe
        self._data = data
        self._options = options
        self._device = device
        self.steps_per_epoch = -(-len(data.train.labels) // options.batch)
        gates = list(model.cell.parameters()) if isinstance(model, GatedResNet) else []
        own = {id(p) for p in gates}
        parameters = [p for p in model.parameters() if id(p) not in own]
        decay, rates = options.weight_decay, [options.rate] * 2
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if gates:  # they begin late, where the rate falls already
            groups.append({"params": gates, "weight_decay": 0.0})
            rates.append(_GATES_FASTER * options.rate)
        self._optimizer = torch.optim.AdamW(groups, lr=options.rate)
        steps = max(options.epochs * self.steps_per_epoch, 2)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rates, total_steps=steps
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "fp16")
        self.parts: dict[str, Stateful] = {
            "model": model,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "scaler": self._scaler,
        }
        """What resuming needs the state of."""

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def epoch(self, epoch: int) -> Iterator[float]:
        """Runs one epoch and yields every step's loss."""
        # Each epoch has its own generators: a resumed run draws what the other would have.
        rng = np.random.default_rng((self._options.seed, epoch))
        torch.manual_seed(int(rng.integers(2**62)))
        order = rng.permutation(len(self._data.train.labels))
        self._model.train()
        if isinstance(self._model, GatedResNet):
            self._model.begin(epoch, self._options.epochs, self._options.target)
        for start in range(0, len(order), self._options.batch):
            index = order[start : start + self._options.batch]
            if len(index) < 2:
                continue  # batch norm needs two
            images = augmented(self._data.train.take(index), self._data.flip, rng)
            labels = self._data.train.labels[index]
            loss = self._step(images, labels, self._passes(epoch, start))
            if not math.isfinite(loss):
                raise TrainError(
                    f"the loss is {loss} in epoch {epoch + 1}: training diverged. The"
                    " checkpoint of the epoch before is kept. Try a smaller --rate (now"
                    f" {self._options.rate:g})."
                )
            yield loss

    def held_out(self, last: bool) -> HeldOut:
        """Returns what the model reaches on the held-out images.

        With the ``last`` epoch, gates are set so that as much runs as is wanted.
        """
        model = self._model.eval()
        if isinstance(model, EarlyExits):
            *heads, end = self._answers()
            trained = model.trained(heads, self._data.held_out.labels)
            return HeldOut(self._right(end), None, trained)
        (answers,) = self._answers()
        if isinstance(model, GatedResNet):
            batches = self._held_out_batches()
            if last:
                set_bias(model, batches, self._options.target)
            found = evaluated(model, batches)
            gates = model.cell.trained(found.rates, found.accuracy)
            return HeldOut(self._right(answers), None, (), found, gates)
        if not isinstance(model, SwitchingNetwork):
            return HeldOut(self._right(answers), None, ())
        model.set_skipped(model.skippable())
        try:
            (skipping,) = self._answers()
        finally:
            model.set_skipped(())
        return HeldOut(self._right(answers), self._right(skipping), ())

    def _passes(self, epoch: int, start: int) -> tuple[AbstractContextManager[None], ...]:
        """Returns what the passes of a step run in: with bit errors one has none, one has."""
        options = self._options
        if options.bit_errors is None:
            return (nullcontext(),)
        rate = options.bit_errors.rate_at(epoch, options.epochs)
        stored, key = options.bit_errors.stored, (options.seed, epoch, start)
        return nullcontext(), damaged(self._model, stored, rate, key)

    def _step(
        self,
        images: NDArray[np.float32],
        labels: NDArray[np.int64],
        passes: tuple[AbstractContextManager[None], ...],
    ) -> float:
        batch = torch.from_numpy(images).to(self._device, memory_format=self._layout)
        wanted = torch.from_numpy(labels).to(self._device)
        self._optimizer.zero_grad()
        loss = 0.0
        for one in passes:
            with self._autocast(), one:
                for each in at_resolutions(self._model, batch, self._options.resolutions):
                    loss += self._recipe.step(
                        self._model, each, wanted, self._options.smoothing, self._backward
                    )
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), float(len(passes)))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        if self._options.bit_errors is not None:
            narrow(self._model)
        return loss / len(passes)

    def _backward(self, loss: torch.Tensor) -> None:
        torch.autograd.backward(self._scaler.scale(loss))

    def _autocast(self) -> torch.autocast:
        names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        precision = self._options.precision
        return torch.autocast(self._device.type, names[precision], enabled=precision != "fp32")

    def _held_out_batches(self) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        images, found = self._data.held_out, []
        for start in range(0, len(images.labels), _HELD_OUT_BATCH):
            index = np.arange(start, min(start + _HELD_OUT_BATCH, len(images.labels)))
            batch = torch.from_numpy(images.take(index))
            batch = batch.to(self._device, memory_format=self._layout)
            labels = torch.from_numpy(images.labels[index]).to(self._device)
            found.append(({"images": batch}, labels))
        return found

    def _answers(self) -> list[NDArray[np.float32]]:
        """Returns the logits of each exit, (N, classes), on the held-out images."""
        images, found = self._data.held_out, []
        with torch.no_grad(), self._autocast():
            for start in range(0, len(images.labels), _HELD_OUT_BATCH):
                index = np.arange(start, min(start + _HELD_OUT_BATCH, len(images.labels)))
                taken = torch.from_numpy(images.take(index))
                batch = taken.to(self._device, memory_format=self._layout)
                answers = self._model(batch)
                exits = answers if isinstance(answers, list) else [answers]
                found.append([logits.float().cpu().numpy() for logits in exits])
        return [np.concatenate(logits) for logits in zip(*found, strict=True)]

    def _right(self, logits: NDArray[np.float32]) -> float:
        return float((logits.argmax(1) == self._data.held_out.labels).mean())


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Sets PyTorch's threads within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(options: TrainOptions) -> torch.device:
    try:
        device = torch.device(options.device)
    except RuntimeError as cause:
        raise TrainError(
            f"--device {options.device!r}: no such device. Use cpu or cuda."
        ) from cause
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainError(
            "--device cuda: PyTorch sees no GPU here. Use --device cpu, or install a CUDA"
            " build of PyTorch."
        )
    if options.precision == "fp16" and device.type == "cpu":
        raise TrainError("--precision fp16 needs a GPU. Use fp32 or bf16 on a CPU.")
    return device


def _data_arguments(data: TrainingData, network: str) -> dict[str, object]:
    """Returns the network's arguments that follow from the data."""
    channels, height, _ = data.shape
    image = {"image": height} if network.endswith("vit") else {}
    return {"channels": channels, "classes": data.classes, **image}
