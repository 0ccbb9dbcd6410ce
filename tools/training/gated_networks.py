"""Networks whose units run as gates decide: our own by hooks, any other by its program."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from skipc.compiler.axes.gate_channels import most_parts, part_numbers
from skipc.compiler.recipes.resnet import Block
from skipc.tools.training.gates import Cell, Decisions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from skipc.compiler.axes.gate_channels import InnerChannels
    from skipc.compiler.axes.gates import PlaceBefore
    from skipc.compiler.axes.units import Units
    from skipc.compiler.verify.torch_reference import TorchReference


_FEW = 2


def gated_blocks_of(network: nn.Module) -> dict[str, Block]:
    """Returns the blocks of a ``ResNet`` by the units that they are; none of others."""
    named = network.named_modules()
    return {name: module for name, module in named if isinstance(module, Block)}


class GatedResNet(nn.Module):
    """A ``ResNet`` of ours with a gate for each of its blocks.

    Args:
        network: The network.
        shape: An image's channels, height and width.
        parts: In how many parts of its channels a branch runs at most.
    """

    def __init__(
        self, network: nn.Module, shape: tuple[int, int, int], parts: int = 1
    ) -> None:
        super().__init__()
        self.network = network
        self._blocks = gated_blocks_of(network)
        self._decisions: Decisions | None = None
        self.target: float | None = None
        """The part of the operations that gates are trained to let run; None without gates."""
        self.most_parts = most_parts(_last(each).in_channels for each in self._blocks.values())
        """In how many parts of its channels a branch of it can run."""
        numbers = {
            name: part_numbers(_last(block).in_channels, parts)
            for name, block in self._blocks.items()
        }
        channels, shares = self._measured(shape, numbers)
        known = {name: torch.from_numpy(own) for name, own in numbers.items() if own.any()}
        self.cell = Cell(channels, known)
        self.register_buffer("shares", shares)
        self.shares: torch.Tensor
        for number, block in enumerate(self._blocks.values()):
            block.register_forward_pre_hook(self._decide)
            _last(block).register_forward_pre_hook(partial(self._leave_channels_out, number))
            block.branch.register_forward_hook(partial(self._leave_out, number))

    def begin(self, epoch: int, epochs: int, target: float) -> None:
        """Says what an epoch trains: the network alone, the gates alone, or both.

        The gates learn to let everything run first. They drop branches, nothing else does.
        """
        alone = epochs // 2
        if epoch == alone:
            self._order_channels()
        opening = max(1, epochs // 10) if epochs > _FEW else 0
        frozen = alone <= epoch < alone + opening
        begun = max(epoch - alone - opening, 0)
        now = self.cell.anneal(begun / (epochs - alone - opening), target)
        self.target = None if epoch < alone else now
        for parameter in self.network.parameters():
            parameter.requires_grad_(not frozen)
        if frozen:
            self.network.eval()
        elif self.target is not None:
            for block in self._blocks.values():
                block.drop.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the scores of a network in which everything runs."""
        self._decisions = None
        scores: torch.Tensor = self.network(images)
        return scores

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns scores and decisions; see ``GatedModel``."""
        self._decisions = Decisions(self.cell)
        (images,) = inputs.values()
        scores = self.network(images)
        return scores, torch.cat(self._decisions.runs, 1)

    def _decide(self, block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del block
        if self._decisions is not None:
            self._decisions.decide(inputs[0].mean((2, 3)))

    def _leave_out(
        self, number: int, module: nn.Module, inputs: object, branch: torch.Tensor
    ) -> Any:
        del module, inputs
        return branch if self._decisions is None else self._decisions.unit(number, branch)

    def _leave_channels_out(
        self, number: int, layer: nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> Any:
        del layer
        if self._decisions is None or self.cell.counts[number] == 1:
            return inputs
        return (self._decisions.within(number, inputs[0]),)

    def _order_channels(self) -> None:
        """Puts the most important channels of each branch into its first part.

        A channel counts by the scale of its norm, times the norm of the weights that read it.
        """
        for number, block in enumerate(self._blocks.values()):
            last, parts = _last(block), self.cell.parts_of(number)
            if not len(parts):
                continue
            score = last.weight.detach().square().sum((0, 2, 3)).sqrt()
            norms = [m for m in block.branch.modules() if isinstance(m, nn.BatchNorm2d)][:-1]
            if norms:
                score = score * norms[-1].weight.detach().abs()
            order = score.argsort(descending=True, stable=True)
            parts[order] = parts.sort().values

    def _measured(
        self, shape: tuple[int, int, int], parts: Mapping[str, NDArray[np.int64]]
    ) -> tuple[dict[str, int], torch.Tensor]:
        """Returns each block's input channels, and its parts' shares of the operations."""
        macs: dict[nn.Module, int] = {}
        channels: dict[str, int] = {}

        def count(layer: nn.Module, inputs: object, result: torch.Tensor) -> None:
            del inputs
            weight = layer.weight
            assert isinstance(weight, torch.Tensor)
            macs[layer] = weight[0].numel() * result[0].numel()

        def look(name: str) -> Any:
            def keep(block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                del block
                channels[name] = inputs[0].shape[1]

            return keep

        handles = [
            layer.register_forward_hook(count)
            for layer in self.network.modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        handles += [b.register_forward_pre_hook(look(n)) for n, b in self._blocks.items()]
        training, device = self.network.training, next(self.network.parameters()).device
        with torch.no_grad():
            self.network.eval()(torch.zeros(1, *shape, device=device))
        self.network.train(training)
        for handle in handles:
            handle.remove()
        shares = []
        for name, block in self._blocks.items():
            layers = [macs[m] for m in block.branch.modules() if m in macs]
            # The layer that makes the channels, and the one that reads them.
            _, *further = sum(layers[-2:]) * np.bincount(parts[name]) / len(parts[name])
            shares += [sum(layers) - sum(further), *further]
        return channels, torch.tensor(shares) / max(sum(macs.values()), 1)


def _last(block: Block) -> nn.Conv2d:
    """Returns the last convolution of a block's branch."""
    *_, last = (m for m in block.branch.modules() if isinstance(m, nn.Conv2d))
    return last


class GatedProgram:
    """An exported network with gates, whose own weights stay as they are.

    Args:
        reference: Interprets its program.
        places: Where the gates read, by unit in network order.
        inner: By unit that runs in parts, its channels, and for each the number of its part.
        units: The network's units.
        output: Its output, by its name in the graph.
    """

    def __init__(
        self,
        reference: TorchReference,
        places: Mapping[str, PlaceBefore],
        inner: Mapping[str, tuple[InnerChannels, NDArray[np.int64]]],
        units: Units,
        output: str,
    ) -> None:
        self._program = reference.program
        self._held = {name: t.detach() for name, t in reference.held_tensors().items()}
        known = {unit.name: unit for unit in units.units}
        cuts = [known[name].cuts[0] for name in places]
        self._joins = {reference.node_name(cut.node): cut.operand for cut in cuts}
        self._before = [(reference.node_name(p.at), p.axis) for p in places.values()]
        self._output = reference.outputs[output]
        names = [*places]
        self._inner = {
            reference.node_name(found.inner.value): (names.index(name), found.inner.axis)
            for name, (found, _) in inner.items()
        }
        self.cell = Cell(
            {name: place.channels for name, place in places.items()},
            {name: torch.from_numpy(parts) for name, (_, parts) in inner.items()},
        )
        macs: list[int] = []
        for name in places:
            if name in inner:
                channels, parts = inner[name]
                macs += channels.macs(np.bincount(parts).tolist())
            else:
                macs.append(known[name].macs)
        self.shares = torch.tensor(macs) / max(units.total_macs, 1)

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns scores and decisions; see ``GatedModel``."""
        decisions, found = Decisions(self.cell), {}
        joins = list(self._joins)
        before, output = self._before, self._output

        class Interpreter(torch.fx.Interpreter):
            def run_node(inner, node: torch.fx.Node) -> Any:  # noqa: N805
                if node.name in self._joins:
                    values, named = inner.fetch_args_kwargs_from_env(node)
                    operands = list(values)
                    place = self._joins[node.name]
                    number = joins.index(node.name)
                    operands[place] = decisions.unit(number, operands[place])
                    result = inner.call_function(node.target, tuple(operands), named)
                else:
                    result = super().run_node(node)
                if node.name in self._inner:
                    number, axis = self._inner[node.name]
                    result = decisions.within(number, result, axis)
                while len(decisions.runs) < len(before):
                    name, axis = before[len(decisions.runs)]
                    if name != node.name:
                        break
                    positions = tuple(a for a in range(1, result.ndim) if a != axis)
                    decisions.decide(result.mean(positions) if positions else result)
                if node.name == output:
                    found["scores"] = result
                return result

        Interpreter(self._program.graph_module).run(*self._arguments(inputs))
        return found["scores"], torch.cat(decisions.runs, 1)

    def _arguments(self, inputs: Mapping[str, torch.Tensor]) -> list[object]:
        from torch.export.graph_signature import ConstantArgument

        return [
            spec.arg.value
            if isinstance(spec.arg, ConstantArgument)
            else self._held.get(spec.arg.name, inputs.get(spec.arg.name))
            for spec in self._program.graph_signature.input_specs
        ]
