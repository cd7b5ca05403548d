"""The workload of all contenders: data, initial parameters and matrix products."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """A VAE with one tanh layer on either side of z and a Bernoulli likelihood, trained by Adagrad.

    Attributes:
      dataset: a name for `aevb.data.load`.
      data_dir: as in `aevb.data.load`.
      source_dir: as in `aevb.data.load`.
      num_images: train on this many random images, 0 for all.
      latent_dim: J.
      hidden_dim: units of the hidden layer of each network.
      batch_size: M.
      learning_rate: the learning rate of Adagrad, whose accumulator starts at 0.
      initial_deviation: standard deviation of the initial weights and biases.
      binarization: the binarization in this project; its peers train on grey pixels.
      num_members: the number of VAEs that this project trains as one program.
      stream: whether this project reads the data during training instead of holding them on the device.
    """

    dataset: str
    data_dir: str | None = None
    source_dir: str | None = None
    num_images: int = 0
    latent_dim: int = 20
    hidden_dim: int = 500
    batch_size: int = 100
    learning_rate: float = 0.02
    initial_deviation: float = 0.01
    binarization: Any = "grey"
    num_members: int = 1
    stream: bool = False


class Layer(NamedTuple):
    """Parameters of `inputs @ kernel + bias`: float32 `[I, O]` and `[O]`."""

    kernel: np.ndarray
    bias: np.ndarray


def pixels(workload: Workload) -> np.ndarray:
    """Return `[N, D]` float32 intensities in [0, 1]."""
    return training_images(workload).pixels()


def training_images(workload: Workload) -> Any:
    """Return the `aevb.data.Dataset` that all contenders train on."""
    # Imported late, as in every function here: a worker sets its XLA flags before anything imports JAX.
    from aevb import data as datasets

    data = datasets.load(workload.dataset, "train", workload.data_dir, workload.source_dir)
    return data.subset(workload.num_images) if workload.num_images else data


def initial_parameters(workload: Workload, data_dim: int) -> dict[str, list[Layer]]:
    """Return "encoder" and "decoder", two layers each, the same for every contender so that losses are comparable."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return (workload.initial_deviation * generator.standard_normal(shape)).astype(np.float32)

    layers = [Layer(draw(inputs, outputs), draw(outputs)) for inputs, outputs in _layer_sizes(workload, data_dim)]
    return {"encoder": layers[:2], "decoder": layers[2:]}


def flax_parameters(layers: list[Layer]) -> dict[str, Any]:
    """Return the layers as parameters of a Flax module that calls one `nn.Dense` after the other."""
    return {f"Dense_{index}": layer._asdict() for index, layer in enumerate(layers)}


def matrix_products(workload: Workload, data_dim: int) -> list[tuple[int, int, int]]:
    """Return `(M, K, N)` of every product `[M, K] @ [K, N]` of one training step.

    A layer has one forward product and two backward, to its weights and its inputs. The data need no gradient.
    """
    size, products = workload.batch_size, []
    for index, (inputs, outputs) in enumerate(_layer_sizes(workload, data_dim)):
        products += [(size, inputs, outputs), (inputs, size, outputs)]
        if index > 0:
            products.append((size, outputs, inputs))
    return products


def flops_per_image(workload: Workload, data_dim: int) -> float:
    """Return the floating-point operations per image of a training step's matrix products, forward and backward.

    Activations, densities, noise and Adagrad are not counted, so utilisation counts useful products only.
    """
    return sum(2 * rows * inner * columns for rows, inner, columns in matrix_products(workload, data_dim)) / (
        workload.batch_size
    )


def images_per_epoch(workload: Workload, num_images: int) -> int:
    """Return how many images an epoch over `num_images` trains on, in whole minibatches, summed over members."""
    return num_images // workload.batch_size * workload.batch_size * workload.num_members


def _layer_sizes(workload: Workload, data_dim: int) -> list[tuple[int, int]]:
    hidden, latent = workload.hidden_dim, workload.latent_dim
    return [(data_dim, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, data_dim)]
