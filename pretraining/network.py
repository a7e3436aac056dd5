"""Which network is pretrained? The starter backbone in PyTorch, and its export with batch normalisation folded in.

`src/topwork/backbones/starter.py` builds the same network in Keras; both call the layers by the same names.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from torch import Tensor, nn

STEM_WIDTH = 24
# Width, width inside a block, blocks. Each stage halves the side; dense 3x3 kernels act on the narrow inside only.
STAGES = ((48, 32, 1), (112, 56, 2), (256, 128, 2))
FEATURE_WIDTH = 640


class ConvNorm(nn.Sequential):
    """Convolution and batch normalisation, without the rectifier."""

    def __init__(self, width_in: int, width_out: int, side: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(width_in, width_out, side, stride, padding=side // 2, bias=False),
            nn.BatchNorm2d(width_out),
        )

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel (out, in, height, width) and bias of the one convolution that equals this pair in inference."""
        convolution, norm = self
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return convolution.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class Block(nn.Module):
    """Bottleneck with a shortcut; starts as the identity, so that depth costs nothing early on (Goyal 2017)."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.reduce_conv = ConvNorm(width, inside)
        self.middle_conv = ConvNorm(inside, inside, 3)
        self.restore_conv = ConvNorm(inside, width)
        nn.init.zeros_(self.restore_conv[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.middle_conv(self.reduce_conv(x).relu_()).relu_()
        return (x + self.restore_conv(inside)).relu_()


class Starter(nn.Module):
    """Images `(B, 3, H, W)` in -1..1 to features `(B, FEATURE_WIDTH)`, averaged over a map of a sixteenth the side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_conv = ConvNorm(3, STEM_WIDTH, 3, 2)
        self.order, width = ["stem_conv"], STEM_WIDTH
        for stage, (wider, inside, blocks) in enumerate(STAGES, 1):
            self._append(f"stage{stage}_down_conv", ConvNorm(width, wider, 3, 2))
            for block in range(1, blocks + 1):
                self._append(f"stage{stage}_block{block}", Block(wider, inside))
            width = wider
        self._append("last_conv", ConvNorm(width, FEATURE_WIDTH))

    def _append(self, name: str, module: nn.Module) -> None:
        self.add_module(name, module)
        self.order.append(name)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = getattr(self, name)(x)
            x = x if "block" in name else x.relu_()
        return x.mean((2, 3))


def folded_tensors(network: Starter) -> dict[str, np.ndarray]:
    """Kernel (height, width, in, out) and bias of every convolution, float16.

    Named as Topwork names tensors: `PLACE/LAYER/kernel`, the place counting the weights in Keras's order.
    """
    tensors: dict[str, np.ndarray] = {}
    for path, module in network.named_modules():
        if isinstance(module, ConvNorm):
            kernel, bias = (tensor.detach().float().cpu() for tensor in module.folded())
            name = path.replace(".", "_")
            place = len(tensors)
            tensors[f"{place:04d}/{name}/kernel"] = kernel.permute(2, 3, 1, 0).contiguous().numpy().astype(np.float16)
            tensors[f"{place + 1:04d}/{name}/bias"] = bias.numpy().astype(np.float16)
    return tensors


def save_folded(network: Starter, path: Path, facts: dict[str, str]) -> None:
    """Write the shipped form, whole or not at all."""
    aside = path.with_suffix(".partial")
    save_file(folded_tensors(network), aside, metadata=facts)
    aside.replace(path)
