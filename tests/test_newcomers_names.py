"""Names: unknown ones are answered with those that there are, and every public one is listed and documented."""

import importlib
import inspect

import numpyro.distributions as dist
import pytest

import aevb
from aevb.algorithms import ALGORITHMS, wake_sleep
from aevb.likelihoods import BERNOULLI
from tests.newcomers import LINEAR, OPTIMIZER, SIZE, XS, Mistake, assert_answered, elbo, marginal, wrong

MISTAKES: dict[str, Mistake] = {
    "an unknown estimator of the KL": wrong(lambda: elbo(kl="exact"), ValueError, "kl must be one of", "got 'exact'"),
    "an unknown gradient": wrong(lambda: elbo(gradient="reinforce"), ValueError, "got 'reinforce'"),
    "an unknown method": wrong(lambda: marginal(method="annealed"), ValueError, "got 'annealed'"),
    "an unknown model family": wrong(
        lambda: aevb.models.build("unet"),
        ValueError,
        "model family must be one of mlp",
        "got 'unet'",
        "register one of your own first",
    ),
    "an argument that a family has not": wrong(
        lambda: aevb.models.build("mlp", data_shape=(12,), latents=3),
        TypeError,
        "the model family 'mlp' takes no 'latents', but data_shape, latent_dim",
    ),
    "an argument that a family lacks": wrong(
        lambda: aevb.mlp_vae((12,)), TypeError, "missing a required argument: 'latent_dim'"
    ),
    "an unknown likelihood": wrong(
        lambda: aevb.mlp_vae((12,), 3, likelihood="poisson"),
        ValueError,
        "likelihood must be one of bernoulli",
        "'poisson'",
    ),
    "a likelihood that is no name": wrong(
        lambda: aevb.mlp_vae((12,), 3, likelihood=BERNOULLI),
        TypeError,
        "likelihood of the model family 'mlp' must be such as",
    ),
    "an unknown posterior": wrong(lambda: aevb.mlp_vae((12,), 3, posterior="diagonal"), ValueError, "got 'diagonal'"),
    "an unknown algorithm": wrong(
        lambda: ALGORITHMS.get("vi"), ValueError, "algorithm must be one of aevb, wake_sleep", "got 'vi'"
    ),
    "an unknown data set": wrong(
        lambda: aevb.data.load("cifar"), ValueError, "'cifar': there are mnist, frey_face, digits"
    ),
    "a registration without a name": wrong(
        lambda: aevb.models.register(lambda: LINEAR), ValueError, "the name of a registered model family must be"
    ),
    "a registration of what is there": wrong(
        lambda: aevb.models.register("mlp"), ValueError, "model family 'mlp' is built in: choose another name"
    ),
    "a likelihood that is a distribution": wrong(
        lambda: aevb.likelihoods.register("mine", dist.Poisson), TypeError, "must be an aevb.likelihoods.Likelihood"
    ),
    "an algorithm that is no function": wrong(
        lambda: aevb.algorithms.register("mine", wake_sleep(LINEAR, OPTIMIZER, SIZE)),
        TypeError,
        "algorithm must be a function",
    ),
    "a data set that is no Source": wrong(lambda: aevb.data.register(XS), TypeError, "must be an aevb.data.Source"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_at_once(name):
    assert_answered(MISTAKES[name], hidden=", a_case_of_the_tests")  # which another suite registers


# What there is


def test_dir_lists_what_is_public():
    assert set(dir(aevb)) == {*aevb.__all__, "__version__"}
    assert all(getattr(aevb, name) is not None for name in aevb.__all__)


PACKAGES = (
    "aevb",
    "aevb.algorithms",
    "aevb.data",
    "aevb.distributions",
    "aevb.likelihoods",
    "aevb.marginal_likelihood",
    "aevb.models",
    "aevb.posterior",
    "aevb.training",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_documented(package):
    module = importlib.import_module(package)
    is_own = lambda value: getattr(value, "__module__", None) == package
    own = [name for name, value in vars(module).items() if not name.startswith("_") and is_own(value)]
    for name in getattr(module, "__all__", own):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value):
            documentation = inspect.getdoc(value) or ""
            assert documentation.endswith((".", "`")) or "\n" in documentation, f"{package}.{name}"
            assert not documentation.startswith(f"{name}("), f"{package}.{name}"  # made by NamedTuple
