"""Pyro: `SVI` with `Trace_ELBO`, a Python loop over steps, minibatches as long as their longest sequence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro  # pyright: ignore[reportMissingImports]  # optional
import pyro.distributions as dist  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
from pyro.infer import SVI, Trace_ELBO  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from aevb.data import lengths_of
from aevb.networks.recurrent import LEAST_SCALE
from experiments.benchmark.contenders import Train
from experiments.benchmark.sequence_workload import SequenceWorkload, initial_parameters, sequences


def build(workload: SequenceWorkload) -> Train:
    """Build the contender with PyTorch's default threads."""
    return build_with(workload, Trace_ELBO(), lambda length: length)


def build_with(workload: SequenceWorkload, elbo: Any, padded_to: Callable[[int], int]) -> Train:
    """Build a contender with one of Pyro's estimators; `padded_to` maps a minibatch's steps to its padded length."""
    data = sequences(workload)
    lengths, x = torch.from_numpy(np.asarray(lengths_of(data))).long(), torch.from_numpy(np.nan_to_num(data))
    pyro.clear_param_store()
    dmm = _DeepMarkov(workload, initial_parameters(workload, data.shape[1:]))
    svi = SVI(dmm.model, dmm.guide, pyro.optim.Adam({"lr": workload.learning_rate}), elbo)
    size = workload.batch_size

    def train(num_epochs: int) -> float:
        losses = []
        for _ in range(num_epochs):
            order, losses = torch.randperm(len(x)), []
            for start in range(0, len(x) - size + 1, size):
                rows = order[start : start + size]
                num_steps = padded_to(int(lengths[rows].max()))
                losses.append(svi.step(x[rows, :num_steps], lengths[rows], num_steps=num_steps) / size)
        return float(np.mean(losses))

    return train


class _DeepMarkov(nn.Module):
    """The networks of `deep_markov_vae`, and its prior, likelihood and posterior in Pyro."""

    def __init__(self, workload: SequenceWorkload, parameters: Any):
        super().__init__()
        theta, phi = parameters["decoder"], parameters["encoder"]
        self.start = nn.Parameter(_tensor(theta["start"]))
        self.transition = nn.ModuleDict({name: _linear(layer) for name, layer in theta["transition"].items()})
        layers = [_linear(theta["emission"][f"Dense_{number}"]) for number in range(3)]
        self.emission = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.combiner = nn.ModuleDict({name: _linear(layer) for name, layer in phi["combiner"].items()})
        self.backward_start = nn.Parameter(_tensor(phi["backward"]["start"]))
        self.backward_unit = _gated_recurrent_unit(phi["backward"], layers[2].out_features)

    def model(self, x: Any, lengths: Any, num_steps: int) -> None:
        """Sample p(x, z)."""
        pyro.module("dmm", self)
        mask, states = _mask(lengths, num_steps), []
        z = self.start.expand(len(x), -1)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(num_steps)):
                steps = dist.Normal(*self._moved(z)).to_event(1)
                z = pyro.sample(f"z_{t}", steps.mask(mask[:, t]))
                states.append(z)
            # All steps in one product, outside the loop.
            keys = dist.Bernoulli(logits=self.emission(torch.stack(states, 1)), validate_args=False)
            pyro.sample("x", keys.mask(mask[:, :, None]).to_event(2), obs=x)

    def guide(self, x: Any, lengths: Any, num_steps: int) -> None:
        """Sample q(z|x)."""
        pyro.module("dmm", self)
        mask = _mask(lengths, num_steps)
        # From each sequence's last step back to its first; padding stays at the end.
        steps = torch.arange(num_steps)
        order = torch.where(mask, lengths[:, None] - 1 - steps, steps)[:, :, None]
        first = self.backward_start.expand(1, len(x), -1).contiguous()
        states, _ = self.backward_unit(torch.gather(x, 1, order.expand_as(x)), first)
        states = torch.gather(states, 1, order.expand_as(states))
        z = self.start.expand(len(x), -1)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(num_steps)):
                combined = 0.5 * (torch.tanh(self.combiner["previous"](z)) + states[:, t])
                mean, scale = self.combiner["outputs"](combined).chunk(2, dim=-1)
                z = pyro.sample(f"z_{t}", dist.Normal(mean, _positive(scale)).to_event(1).mask(mask[:, t]))

    def _moved(self, z: Any) -> tuple[Any, Any]:
        """Return the mean and the scale of the next state."""
        to_gate, to_proposed = functional.relu(self.transition["hidden"](z)).chunk(2, dim=-1)
        gate = torch.sigmoid(self.transition["gate"](to_gate))
        proposed = self.transition["proposed"](to_proposed)
        mean = (1 - gate) * self.transition["linear"](z) + gate * proposed
        return mean, _positive(self.transition["scale"](functional.relu(proposed)))


def _tensor(array: np.ndarray) -> Any:
    return torch.from_numpy(np.array(array))


def _mask(lengths: Any, num_steps: int) -> Any:
    return torch.arange(num_steps) < lengths[:, None]


def _positive(values: Any) -> Any:
    return functional.softplus(values) + LEAST_SCALE


def _linear(layer: dict[str, np.ndarray]) -> Any:
    linear = nn.Linear(*layer["kernel"].shape)
    with torch.no_grad():
        linear.weight.copy_(_tensor(layer["kernel"].T))
        linear.bias.copy_(_tensor(layer["bias"]))
    return linear


def _gated_recurrent_unit(phi: Any, data_dim: int) -> Any:
    """Return PyTorch's unit with this project's weights; it has a bias per product where one would be enough."""
    size = len(phi["start"])
    unit = nn.GRU(data_dim, size, batch_first=True)
    with torch.no_grad():
        unit.weight_ih_l0.copy_(
            _tensor(phi["inputs"]["kernel"][:data_dim].T)
        )  # the inputs that mark missing values are left out
        unit.bias_ih_l0.copy_(_tensor(phi["inputs"]["bias"]))
        unit.weight_hh_l0.copy_(_tensor(phi["kernel"].T))
        unit.bias_hh_l0.zero_()
        unit.bias_hh_l0[2 * size :].copy_(_tensor(phi["bias"]))
    return unit
