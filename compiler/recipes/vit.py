"""Vision transformers (Dosovitskiy et al. 2021) with stochastic depth in both branches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from skipc.compiler.recipes.stochastic_depth import DropSettings, StochasticDepth


class Attention(nn.Module):
    """Multi-head self-attention over tokens of shape (N, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns a tensor of the same shape."""
        rows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        joined: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return joined


class Layer(nn.Module):
    """``x + drop(attention(norm(x)))``, then the same with the MLP."""

    def __init__(self, width: int, heads: int, ratio: int, drop: StochasticDepth) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        inner = ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape, (N, tokens, width)."""
        x = x + self.drop(self.attention(self.norm1(x)))
        joined: torch.Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return joined


class Embedding(nn.Module):
    """Images (N, channels, H, W) to patch tokens, a class token and positions."""

    def __init__(self, image: int, patch: int, channels: int, width: int) -> None:
        super().__init__()
        if image % patch:
            raise ValueError(f"image size {image} is no multiple of the patch size {patch}")
        self.project = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns tokens of shape (N, 1 + patches, width)."""
        patches = self.project(images).flatten(2).transpose(1, 2)
        first = self.token.expand(patches.shape[0], -1, -1)
        tokens: torch.Tensor = torch.cat([first, patches], dim=1) + self.position
        return tokens

    def set_input_size(self, img_size: tuple[int, int]) -> None:
        """Interpolates the positions for images of another height and width, bicubically."""
        token, table = self.position[:, :1], self.position[:, 1:]
        side, patch = round(table.shape[1] ** 0.5), self.project.kernel_size[0]
        square = table.transpose(1, 2).reshape(1, -1, side, side)
        wanted = [pixels // patch for pixels in img_size]
        made = functional.interpolate(square, wanted, mode="bicubic", antialias=True)
        positions = torch.cat([token, made.flatten(2).transpose(1, 2)], dim=1)
        self.position = nn.Parameter(positions.detach())


class ViT(nn.Module):
    """A small vision transformer.

    Args:
        image: Height and width of the images.
        patch: Height and width of a patch.
        channels: Channels of the images.
        width: Width of a token.
        depth: Layers.
        heads: Attention heads.
        ratio: How much wider the MLP is inside.
        classes: Outputs.
        drop: Drop rate of the last layer.
        schedule: ``linear`` or ``uniform``.
        convention: ``original``, ``inverted`` or ``none``.
        per: ``batch`` or ``sample``.
    """

    def __init__(
        self,
        image: int = 8,
        patch: int = 2,
        channels: int = 1,
        width: int = 64,
        depth: int = 6,
        heads: int = 4,
        ratio: int = 2,
        classes: int = 10,
        drop: float = 0.15,
        schedule: str = "linear",
        convention: str = "inverted",
        per: str = "sample",
    ) -> None:
        super().__init__()
        settings = DropSettings.of(drop, schedule, convention, per)
        self.embedding = Embedding(image, patch, channels, width)
        self.layers = nn.Sequential(
            *(Layer(width, heads, ratio, settings.at(i, depth)) for i in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def set_input_size(self, img_size: tuple[int, int]) -> None:
        """Makes it a network for images of another height and width."""
        self.embedding.set_input_size(img_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, classes), of images of shape (N, channels, H, W)."""
        tokens = self.layers(self.embedding(images))
        logits: torch.Tensor = self.head(self.norm(tokens[:, 0]))
        return logits
