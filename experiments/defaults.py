"""The default configuration of each data set, used by its command and by the paper's figures."""

from typing import Any

import numpy as np

from aevb.data import SOURCES, Dataset
from aevb.data.binarization import Binarization
from aevb.distributions.intensities import intensities
from experiments import configs
from experiments.configs import Config, DataConfig

TITLES = {"mnist": "MNIST", "frey_face": "Frey Face", "digits": "Digits", "jsb_chorales": "JSB chorales"}
"""Names of data sets for tables and figures."""

_PAPER = configs.change(Config(), latent_dim=20, hidden_dim=[500])

OWN_IMAGES, OWN_SEQUENCES = "images", "sequences"
"""The names of the commands for the user's own data, which name the data set until it is loaded."""

OWN_DATA = (OWN_IMAGES, OWN_SEQUENCES)

_SEQUENCES = configs.change(
    Config(),
    model="deep_markov",
    optimizer="adam",
    learning_rate=3e-3,  # 1e-3 is a nat per step behind on two sets of real-valued sequences; 6e-3 diverges on one
    schedule="cosine",
    clip_norm=500.0,
    batch_size=20,
    map_prior=False,
    kl_warm_up=100,
    kl_start=0.2,  # from 0, q first moves away from the prior and spends epochs on returning
    num_epochs=800,
    eval_every=25,
)

_DEFAULTS = {
    # python -m experiments.mnist --latent_dim=20
    # Section 5. 3 million samples: three minutes on 2 CPU cores. Test bound -109.2 nats per image.
    "mnist": configs.change(_PAPER, num_epochs=50, eval_every=1, split_rule="official"),
    # python -m experiments.frey_face --latent_dim=10
    # Section 5. 3 million samples: two minutes on 2 CPU cores. Test bound 1,193 nats per image.
    "frey_face": configs.change(
        _PAPER,
        dataset="frey_face",
        split_rule="random",
        latent_dim=10,
        hidden_dim=[200],
        likelihood="gaussian",
        squash_mean=True,
        weight_init="normal_0.1",  # at 0.01 wake-sleep never learns to use z
        learning_rate=0.01,
        num_epochs=1765,
        eval_every=25,
    ),
    # python -m experiments.digits
    # The demonstration. A minute for both latent sizes, 2 and 10, on 2 CPU cores. Test bounds -24.1 and -23.6 nats per
    # image. Adam converges sooner than the paper's Adagrad does on so few images.
    "digits": configs.change(
        _PAPER,
        dataset="digits",
        split_rule="random",
        latent_dim=2,
        hidden_dim=[200],
        optimizer="adam",
        learning_rate=1e-3,
        num_epochs=1200,
        eval_every=50,
    ),
    # python -m experiments.images --data=PATH
    # The user's own images. The likelihood is chosen from the data.
    OWN_IMAGES: configs.change(
        _PAPER,
        dataset=OWN_IMAGES,
        split_rule="",
        optimizer="adam",
        learning_rate=1e-3,
        num_train_samples=500_000,
        eval_every="log",
    ),
    # python -m experiments.jsb_chorales
    # A deep Markov model as in Krishnan et al. (2017).
    "jsb_chorales": configs.change(
        _SEQUENCES,
        dataset="jsb_chorales",
        split_rule="official",
        output_bias="data_mean",  # starting at 0 is 0.4 nats per step worse after 75 epochs
        learning_rate=6e-3,  # validation: 1e-3 is 0.38 nats per step behind after 300 epochs, 1e-2 0.06
        weight_decay=0.03,  # validation: 0.13 nats per step better after 800 epochs than none
        length_buckets=3,
    ),
    # python -m experiments.sequences --data=PATH
    # The user's own sequences. The likelihood is chosen from the data.
    OWN_SEQUENCES: configs.change(_SEQUENCES, dataset=OWN_SEQUENCES, split_rule="", eval_every="log"),
}


def of(dataset: str, **values: Any) -> Config:
    """Return the default configuration of a data set, with other values of some settings.

    Registered data sets that have no entry here use Adam and 50 epochs; those of sequences use a deep Markov model of
    real values.

    Args:
      dataset: the name of the data set.
      **values: settings by the names of their flags, such as `latent_dim=5`.

    Raises:
      ValueError: no data set of that name is registered, or there is no such setting.
    """
    if dataset in _DEFAULTS:
        return configs.change(_DEFAULTS[dataset], **values)
    source = SOURCES.get(dataset)
    rule = next(iter(source.split_rules))
    if "lengths" in source.declared:
        own = configs.change(_SEQUENCES, dataset=dataset, split_rule=rule, likelihood="gaussian")
        return configs.change(own, **values)
    own = configs.change(_PAPER, dataset=dataset, split_rule=rule, optimizer="adam", learning_rate=1e-3)
    return configs.change(own, **values)


_EXTREME = 0.02  # distance from 0 or 1 within which an intensity counts as black or white


def likelihood_for(train: Dataset, binarization: Binarization = "grey") -> tuple[str, str]:
    """Return a suitable likelihood for own data, and the reason in words; only the values matter, not their format."""
    if train.is_sequences:
        values = train.sequences()
        if np.all(np.isnan(values) | (values == 0) | (values == 1)):
            return "bernoulli", "all values are 0 or 1"
        return "gaussian", "not all values are 0 or 1"
    if binarization != "grey":
        return "bernoulli", f"pixels are binarized (binarization {binarization})"
    pixels = train.pixels()
    if np.mean((pixels < _EXTREME) | (pixels > 1 - _EXTREME)) > 0.5:
        return "bernoulli", "most pixels are black or white"
    if np.all(intensities(pixels)):
        return "discretized_logistic", "pixels have one of 256 values, most of them neither black nor white"
    if np.any(pixels.min(0) == pixels.max(0)):
        return "bernoulli", "some pixels never vary, so that a Gaussian density of them has no upper bound"
    return "squashed_gaussian", "every pixel takes values between black and white"


def title_of(data: DataConfig) -> str:
    """Return the name of a data set for tables and figures."""
    return TITLES.get(data.name, data.name.replace("_", " ").capitalize())
