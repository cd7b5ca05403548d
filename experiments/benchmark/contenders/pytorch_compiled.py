"""PyTorch at its best: data in memory, an epoch's noise drawn at once, `torch.compile`, fused Adagrad."""

import torch  # pyright: ignore[reportMissingImports]  # optional
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.benchmark.contenders import Train
from experiments.benchmark.workload import Workload, initial_parameters, pixels


def build(workload: Workload) -> Train:
    """Build one compiled function from minibatch and noise to loss; its first call needs a C++ compiler."""
    # Compile in this process, one function after the other: a pool of compilers would stay alive during measurements.
    torch._inductor.config.compile_threads = 1
    data = torch.from_numpy(pixels(workload))
    layers = initial_parameters(workload, data.shape[1])
    tensors = [torch.from_numpy(array) for part in ("encoder", "decoder") for layer in layers[part] for array in layer]
    parameters = [tensor.requires_grad_() for tensor in tensors]
    optimizer = torch.optim.Adagrad(parameters, lr=workload.learning_rate, fused=True)
    size, num_batches = workload.batch_size, len(data) // workload.batch_size

    @torch.compile(fullgraph=True, dynamic=False)
    def compute_loss(x, noise, w1, b1, w2, b2, w3, b3, w4, b4):
        mean, log_variance = torch.addmm(b2, torch.tanh(torch.addmm(b1, x, w1)), w2).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * noise
        logits = torch.addmm(b4, torch.tanh(torch.addmm(b3, z, w3)), w4)
        negative_reconstruction = (functional.softplus(logits) - x * logits).sum()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (negative_reconstruction + kl) / size

    def train(num_epochs: int) -> float:
        losses = torch.zeros(num_batches)
        for _ in range(num_epochs):
            order = torch.randperm(len(data))
            noise = torch.randn(num_batches, size, workload.latent_dim)
            for index in range(num_batches):
                x = data[order[index * size : (index + 1) * size]]
                loss = compute_loss(x, noise[index], *parameters)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses[index] = loss.detach()
        return float(losses.mean())

    return train
