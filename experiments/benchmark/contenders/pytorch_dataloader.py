"""PyTorch as in its tutorials: a `DataLoader` over a `TensorDataset`, `zero_grad`, `backward`, `step`."""

import torch  # pyright: ignore[reportMissingImports]  # optional
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmark.contenders import Train
from experiments.benchmark.workload import Layer, Workload, initial_parameters, pixels


class _Vae(nn.Module):
    def __init__(self, encoder: list[Layer], decoder: list[Layer]):
        super().__init__()
        self.encoder, self.decoder = _mlp(encoder), _mlp(decoder)

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = -functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
        return -(reconstruction - kl) / len(x)


def _mlp(layers: list[Layer]) -> nn.Sequential:
    first, second = (nn.Linear(*layer.kernel.shape) for layer in layers)
    with torch.no_grad():
        for linear, layer in zip((first, second), layers, strict=True):
            linear.weight.copy_(torch.from_numpy(layer.kernel.T))
            linear.bias.copy_(torch.from_numpy(layer.bias))
    return nn.Sequential(first, nn.Tanh(), second)


def build(workload: Workload) -> Train:
    """Build the contender with PyTorch's default threads and no worker processes, since the data are in memory."""
    data = torch.from_numpy(pixels(workload))
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data), batch_size=workload.batch_size, shuffle=True, drop_last=True
    )
    model = _Vae(**initial_parameters(workload, data.shape[1]))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=workload.learning_rate)

    def train(num_epochs: int) -> float:
        losses = []
        for _ in range(num_epochs):
            losses = []
            for (x,) in loader:
                optimizer.zero_grad()
                loss = model(x)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        return sum(losses) / len(losses)

    return train
