"""Adam, by torch's own function of it."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]

_EPSILON = 1e-8
"""Added to the root of the second moment: the paper's."""


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1), to the bit that of `torch.optim.Adam(fused=True)`.

    That class imports torch's compiler when it is first made, which takes longer than a short fit;
    the function that does its work, `torch.optim.adam.adam`, does not.

    Args:
        parameters: what is fitted.
        betas: decays of the first and of the second moment.
    """

    def __init__(self, parameters: Iterable[Tensor], betas: tuple[float, float]) -> None:
        self.parameters, self.betas = list(parameters), betas
        self._states: dict[int, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Moves the parameters that have a gradient.

        Args:
            rate: the learning rate.
        """
        moved = [(i, p, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None]
        states = [self._states.setdefault(i, _fresh(p)) for i, p, _ in moved]
        adam(
            [parameter for _, parameter, _ in moved],
            [gradient for _, _, gradient in moved],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Returns its tensors as <parameter>.<name>, of the parameters that were ever moved."""
        return {
            f"{index}.{name}": value
            for index, state in self._states.items()
            for name, value in state.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` gave, or the state of `torch.optim.Adam` under the same names.

        Each moment gets the memory layout of its parameter, on which the fused kernel relies.
        """
        self._states = {}
        for key, value in tensors.items():
            index, name = key.split(".")
            parameter = self.parameters[int(index)]
            state = self._states.setdefault(int(index), _fresh(parameter))
            state[name].copy_(value)


def _fresh(parameter: Tensor) -> dict[str, Tensor]:
    """Returns the state of a parameter that was never moved."""
    return {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
