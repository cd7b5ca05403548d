"""Images a second of this project and of a PyTorch loop, in one run: same network, data, batch size and optimizer.

    pip install -e ".[benchmark]"
    python -m experiments.benchmark --source_dir=FOLDER_OF_MNIST

784-500-20 tanh VAE on MNIST, M = 100, Adagrad 0.02. The two take turns, so that a machine whose speed drifts slows
both; what counts is the median of the ratios pair by pair. PyTorch's side is the loop that its tutorials teach: a
`DataLoader` over a `TensorDataset`, `zero_grad`, `backward`, `step`. Compilation and a first epoch of each are not
counted.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments import launch

_FLAGS = flags.FLAGS
_LATENT_DIM, _HIDDEN_DIM, _BATCH_SIZE, _LEARNING_RATE = 20, 500, 100, 0.02
# Two FLOPs a weight forwards, twice that backwards.
_FLOPS_PER_IMAGE = 6 * (
    784 * _HIDDEN_DIM + _HIDDEN_DIM * 2 * _LATENT_DIM + _LATENT_DIM * _HIDDEN_DIM + _HIDDEN_DIM * 784
)


def main() -> None:
    """Defines the flags and runs."""
    flags.DEFINE_integer("repeats", 5, "Pairs of counted runs.", lower_bound=1)
    flags.DEFINE_integer("num_epochs", 1, "Epochs in each counted run.", lower_bound=1)
    flags.DEFINE_string("data_dir", None, "Where prepared data are kept; TFDS's own folder if not given.")
    flags.DEFINE_string("source_dir", None, "A folder of the original files, instead of the network.")
    flags.DEFINE_string("output", None, "A JSON file to write, which must not exist yet.")
    launch.start(__name__, _benchmark)


def _benchmark() -> None:
    if _FLAGS.output and Path(_FLAGS.output).exists():
        raise ValueError(f"{_FLAGS.output} exists already")
    pytorch = _torch_runner()  # first, because it is the one that may be missing
    contenders = {"aevb": _aevb_runner(), "pytorch_dataloader": pytorch}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(1)
    for repeat in range(_FLAGS.repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            num_images = run(_FLAGS.num_epochs)
            rates[name].append(num_images / (time.perf_counter() - start))
        print(f"{repeat + 1}: " + "  ".join(f"{name} {values[-1]:,.0f} images/s" for name, values in rates.items()))
    ours, theirs = rates.values()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    for name, values in rates.items():
        print(f"{name:>20}  median {statistics.median(values):>9,.0f} images/s")
    peak = _matrix_multiply_peak()
    achieved = statistics.median(ours) * _FLOPS_PER_IMAGE
    print(
        f"{_FLOPS_PER_IMAGE / 1e6:.2f} MFLOP an image; aevb {achieved / 1e9:.0f} GFLOP/s of a matrix-multiply peak of "
        f"{peak / 1e9:.0f} in this run: utilisation {achieved / peak:.2f}"
    )
    print(f"ratio pair by pair: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    if _FLAGS.output:
        Path(_FLAGS.output).write_text(
            json.dumps({"images_per_second": rates, "ratios": ratios, "matrix_multiply_peak": peak}, indent=2) + "\n"
        )


def _matrix_multiply_peak() -> float:
    """FLOP/s of the best of several large float32 products, through JAX."""
    import jax
    import jax.numpy as jnp

    size = 2048
    square = jnp.ones((size, size))
    multiply = jax.jit(jnp.matmul)
    multiply(square, square).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        multiply(square, square).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def _pixels():
    from aevb import datasets

    return datasets.load("mnist", "train", _FLAGS.data_dir, _FLAGS.source_dir).pixels()


def _aevb_runner() -> Callable[[int], int]:
    import jax
    import jax.numpy as jnp

    import aevb

    data = jnp.asarray(_pixels())
    model = aevb.mlp_vae((784,), _LATENT_DIM, _HIDDEN_DIM)
    optimizer = aevb.paper_optimizer(_LEARNING_RATE)
    train_epochs = aevb.make_train_epochs(aevb.auto_encoding(model, optimizer, len(data), map_prior=False), _BATCH_SIZE)
    state = aevb.init_train_state(jax.random.key(0), model, optimizer)

    def run(num_epochs: int) -> int:
        nonlocal state
        state, progress = train_epochs(state, data, num_epochs)
        progress.loss.block_until_ready()
        return num_epochs * len(data)

    return run


def _torch_runner() -> Callable[[int], int]:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        raise ValueError('PyTorch is not installed: pip install -e ".[benchmark]"') from None
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Linear(784, _HIDDEN_DIM), nn.Tanh(), nn.Linear(_HIDDEN_DIM, 2 * _LATENT_DIM)
            )
            self.decoder = nn.Sequential(nn.Linear(_LATENT_DIM, _HIDDEN_DIM), nn.Tanh(), nn.Linear(_HIDDEN_DIM, 784))

        def forward(self, x):
            mean, log_variance = self.encoder(x).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            reconstruction = -functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
            return -(reconstruction - kl) / len(x)

    dataset = torch.utils.data.TensorDataset(torch.from_numpy(_pixels()))
    loader = torch.utils.data.DataLoader(dataset, batch_size=_BATCH_SIZE, shuffle=True)
    model = Vae()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=_LEARNING_RATE)

    def run(num_epochs: int) -> int:
        for _ in range(num_epochs):
            for (x,) in loader:
                optimizer.zero_grad()
                model(x).backward()
                optimizer.step()
        return num_epochs * len(dataset)

    return run


if __name__ == "__main__":
    main()
