"""The beta-binomial likelihood over 0..255, in a form that is accurate in float32.

The mass is a ratio of gamma functions, C(n, k) B(k + a, n - k + b) / B(a, b), whose logarithms exceed the logarithm of
the ratio by up to ten orders of magnitude. With a = s p, b = s (1 - p), m = n + s and

    log Gamma(x) = x log x - x + log(2 pi) / 2 + log(1 + x) / 2 - log x + remainder(x),     -0.92 < remainder(x) < 0

all large terms cancel analytically. Four parts remain to be computed, none of them much larger than the result:

    log P(k) = coefficient(k) + entropy + log ratio + remainder(k + a) - remainder(a)
               + remainder(n - k + b) - remainder(b) - remainder(m) + remainder(s)

    coefficient(k) = log C(n, k) + k log(k / n) + (n - k) log(1 - k / n)
    entropy        = (k + a) log((k + a) / (m p)) - k log(k / (n p)), plus the same for n - k, b and 1 - p
    log ratio      = the sum of the terms log(1 + x) / 2 - log x
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.distributions import constraints
from scipy import special

from aevb.distributions.intensities import LARGEST, NUM_INTENSITIES, OverIntensities
from aevb.likelihoods.likelihood import Likelihood

_EXTREME = 20.0  # the bound of both parameters: masses beyond it agree to seven digits
_CONCENTRATED = 32.0  # the concentration above which the second form of the entropy is more precise


class GreyBetaBinomial(OverIntensities):
    """The number of successes in 255 trials, divided by 255, with a success probability from a Beta distribution.

    The mean is sigmoid(logit). The variance decreases with the concentration s = a + b: from that of a distribution on
    black and white alone (s = 0), through the uniform distribution (mean 1/2, s = 2), to the binomial distribution
    (large s), whose standard deviation is 0.03 at mean 1/2.
    """

    arg_constraints = {"logit": constraints.real, "log_concentration": constraints.real}  # noqa: RUF012
    pytree_data_fields = ("logit", "log_concentration")

    def __init__(self, logit: ArrayLike, log_concentration: ArrayLike, *, validate_args: bool | None = None):
        """Define the distribution. Parameters are clipped to -20..20.

        Args:
          logit: the logit of the mean intensity.
          log_concentration: log(a + b) of the Beta distribution.
          validate_args: see `numpyro.distributions.Distribution`.
        """
        self.logit, self.log_concentration = jnp.broadcast_arrays(logit, log_concentration)
        super().__init__(batch_shape=jnp.shape(self.logit), validate_args=validate_args)

    def log_mass(self, k: jax.Array) -> jax.Array:
        # The mass equals that of n - k at the negated logit. With p at most one half, nothing below cancels.
        is_dark, s = self.logit < 0, self._concentration()
        count, logit = jnp.where(is_dark, k, LARGEST - k), jnp.where(is_dark, self.logit, -self.logit)
        p, q = _shares(logit)
        a, b, m, rest = s * p, s * q, LARGEST + s, LARGEST - count
        ratio = (a / (count + a)) * (q * m / (rest + b))
        roots = ((1 + count + a) / (1 + a)) * ((1 + rest + b) / (1 + b)) * ((1 + s) / (1 + m))
        remainders = _remainder(count + a) - _remainder(a) + _remainder(rest + b) - _remainder(b)
        constant = _remainder(s) - _remainder(m)
        coefficient = jnp.asarray(_COEFFICIENTS, k.dtype)[k.astype(int)]
        return coefficient + _entropy(count, p, q, s) + jnp.log(ratio * jnp.sqrt(roots)) + remainders + constant

    @property
    def mean(self) -> jax.Array:
        return _shares(self.logit)[0]

    @property
    def variance(self) -> jax.Array:
        (p, q), s = _shares(self.logit), self._concentration()
        return p * q * (LARGEST + s) / (LARGEST * (1 + s))

    def _concentration(self) -> jax.Array:
        return jnp.exp(jnp.clip(self.log_concentration, -_EXTREME, _EXTREME))


def _shares(logit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return p and 1 - p."""
    logit = jnp.clip(logit, -_EXTREME, _EXTREME)
    return jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)


def _coefficients() -> np.ndarray:
    k = np.arange(NUM_INTENSITIES, dtype=np.float64)
    binomial = special.gammaln(NUM_INTENSITIES) - special.gammaln(k + 1) - special.gammaln(NUM_INTENSITIES - k)
    return binomial + special.xlogy(k, k / LARGEST) + special.xlogy(LARGEST - k, 1 - k / LARGEST)


_COEFFICIENTS = _coefficients()


def _entropy(k: jax.Array, p: jax.Array, q: jax.Array, s: jax.Array) -> jax.Array:
    """Return the differences of x log x, in the form with the smaller rounding error at this concentration."""
    # The form that is not selected is evaluated at a point where it is finite, so that its gradient is not NaN times 0.
    diffuse, concentrated = jnp.minimum(s, _CONCENTRATED), jnp.maximum(s, _CONCENTRATED)
    deviation = k - LARGEST * p
    sides = ((k, p, deviation), (LARGEST - k, q, -deviation))
    return jnp.where(
        s < _CONCENTRATED,
        sum(_diffuse(*side, diffuse) for side in sides),
        sum(_concentrated(*side, concentrated) for side in sides),
    )


def _diffuse(k: jax.Array, p: jax.Array, deviation: jax.Array, s: jax.Array) -> jax.Array:
    """Return (k + a) log((k + a) / (m p)) - k log(k / (n p)) as k log((1 + a / k) / (1 + s / n)) + a log(...)."""
    m, above_zero = LARGEST + s, jnp.maximum(k, 1)
    to_prior = deviation / (m * p)
    is_near = jnp.abs(to_prior) < 0.5
    log_to_prior = jnp.where(is_near, jnp.log1p(jnp.where(is_near, to_prior, 0)), jnp.log((k + s * p) / (m * p)))
    return k * jnp.log1p(-s * deviation / (above_zero * m)) + s * p * log_to_prior


def _concentrated(k: jax.Array, p: jax.Array, deviation: jax.Array, s: jax.Array) -> jax.Array:
    """Return the same from logarithms of 1 plus relative deviations, which are small where the mass is large."""
    smallest = _CONCENTRATED / (_CONCENTRATED + LARGEST) - 1
    to_prior = jnp.maximum(deviation / ((LARGEST + s) * p), smallest)
    to_count = jnp.where(k > 0, deviation / (LARGEST * p), 0)
    return (k + s * p) * jnp.log1p(to_prior) - k * jnp.log1p(to_count)


def _remainder(x: jax.Array) -> jax.Array:
    """Return the remainder of log Gamma(x) above, for x > 0: x log(1 + 1/x) - 1 plus Binet's function of 1 + x."""
    # Binet's function of y exceeds that of y + 1 by (y + 1/2) log(1 + 1/y) - 1, a series in 1 / (2 y + 1)^2.
    square = 1 / (2 * x + 3) ** 2
    step = jnp.zeros_like(square)
    for order in range(21, 1, -2):
        step = square * (1 / order + step)
    return x * jnp.log1p(1 / x) - 1 + step + _binet(x + 2)


def _binet(y: jax.Array) -> jax.Array:
    """Return log Gamma(y) - (y - 1/2) log y + y - log(2 pi) / 2 for y >= 2, by Stieltjes' continued fraction.

    Abramowitz and Stegun, 6.1.48.
    """
    fraction = y
    for coefficient in (109535241009 / 48264275462, 29944523 / 19733142, 22999 / 22737, 195 / 371, 53 / 210, 1 / 30):
        fraction = y + coefficient / fraction
    return 1 / (12 * fraction)


def _from_outputs(logit: Any, log_concentration: Any) -> GreyBetaBinomial:
    return GreyBetaBinomial(logit, log_concentration + np.log(2.0))


BETA_BINOMIAL = Likelihood(2, _from_outputs, NUM_INTENSITIES)
"""A beta-binomial likelihood whose outputs are logits of the mean and log-concentrations minus log 2.

Outputs of 0 give the uniform distribution, 8 bits per value.
"""
