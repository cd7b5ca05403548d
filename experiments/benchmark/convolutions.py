"""Training speed of the convolutional family: its convolutions as products compared with XLA's own in the same scan."""

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import optax

import aevb
from aevb.networks import convolution
from experiments.benchmark.settings import Settings, Spread
from experiments.benchmark.workload import training_images


def measure(settings: Settings) -> dict[str, Any]:
    """Train both in turn, print images per second, and return the contents of convolutions.json."""
    images = training_images(settings.workload).pixels(flat=False)
    model = aevb.models.build("convolutional", data_shape=images.shape[1:], latent_dim=settings.workload.latent_dim)
    contenders = {"as products": model, "as XLA's convolutions": with_native_convolutions(model)}
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(settings.repeats):
        for name, each in contenders.items():
            turns[name].append(_images_per_second(settings, images, each))
    ours, theirs = turns.values()
    ratio = Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])
    print("\nimages per second, median and range:")
    for name, rates in turns.items():
        print(f"  {name}: {Spread.of(rates).median:.0f} ({min(rates):.0f} to {max(rates):.0f})")
    print(f"  ratio turn by turn: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    return {"images_per_second": turns, "ratio": ratio._asdict()}


def with_native_convolutions(model: aevb.Model) -> aevb.Model:
    """Return a convolutional model that uses XLA's convolutions, as `flax.linen.Conv` does, on CPUs too."""

    def natively(function: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*args: Any) -> Any:
            choose = lambda *operands, cpu, default: default(*operands)
            with mock.patch.object(convolution, "_by_platform", choose):
                return function(*args)

        return traced

    return dataclasses.replace(model, encode=natively(model.encode), decode=natively(model.decode), recipe=None)


def _images_per_second(settings: Settings, images: Any, model: aevb.Model) -> float:
    """Return the rate without the first epoch, which may compile."""
    num_epochs = 1 + settings.num_epochs
    history = aevb.fit(
        images,
        model,
        key=jax.random.key(0),
        optimizer=optax.adam(1e-3),
        batch_size=settings.workload.batch_size,
        num_epochs=num_epochs,
        eval_every=1,
        map_prior=False,
    ).history
    first, last = history[0], history[-1]
    return (last.num_train_samples - first.num_train_samples) / (last.seconds - first.seconds)
