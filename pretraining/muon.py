"""How are convolution kernels stepped? Muon: momentum, made orthogonal.

Jordan et al. 2024, kellerjordan.github.io/posts/muon.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearest matrix with singular values about 1, by the quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(Optimizer):
    """For kernels that batch normalisation follows: their norm has no effect, so it is held; `lr` is relative."""

    def __init__(self, kernels: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                mean = self.state[kernel].setdefault("mean", torch.zeros_like(kernel))
                mean.lerp_(kernel.grad, 1 - group["momentum"])
                ahead = kernel.grad.lerp(mean, group["momentum"])
                update = orthogonalise(ahead.flatten(1)).view_as(kernel)
                norm = len(kernel) ** 0.5
                kernel.mul_(norm / kernel.norm()).add_(update, alpha=-group["lr"])
