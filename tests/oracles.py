"""Exact answers, in float64 NumPy, independent of the library."""

from typing import NamedTuple

import numpy as np


class LinearGaussian(NamedTuple):
    """p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I): probabilistic PCA, where all quantities are known."""

    weights: np.ndarray  # [D, J]
    bias: np.ndarray  # [D]
    noise_variance: float

    @staticmethod
    def random(data_dim: int, latent_dim: int, seed: int) -> "LinearGaussian":
        rng = np.random.RandomState(seed)
        return LinearGaussian(rng.randn(data_dim, latent_dim), rng.randn(data_dim), 0.3)

    def log_marginal(self, x: np.ndarray) -> float:
        return log_normal(x, self.bias, self.weights @ self.weights.T + self.noise_variance * np.eye(len(self.bias)))

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        precision = np.eye(self.weights.shape[1]) + self.weights.T @ self.weights / self.noise_variance
        covariance = np.linalg.inv(precision)
        return covariance @ self.weights.T @ (x - self.bias) / self.noise_variance, covariance

    def elbo(self, x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
        """The exact bound at any Gaussian q: log p(x) - KL(q || p(z|x))."""
        exact_mean, exact_covariance = self.posterior(x)
        return self.log_marginal(x) - kl_normal(mean, covariance, exact_mean, exact_covariance)


def log_normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    residual = x - mean
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    return float(-0.5 * (log_determinant + residual @ np.linalg.solve(covariance, residual)))


def kl_normal(mean0: np.ndarray, cov0: np.ndarray, mean1: np.ndarray, cov1: np.ndarray) -> float:
    residual = mean1 - mean0
    trace = np.trace(np.linalg.solve(cov1, cov0))
    log_ratio = np.linalg.slogdet(cov1)[1] - np.linalg.slogdet(cov0)[1]
    return float(0.5 * (trace + residual @ np.linalg.solve(cov1, residual) - len(mean0) + log_ratio))


class Gradient(NamedTuple):
    """A bound and its gradient, computed by hand."""

    elbo: float
    params: dict


def mlp_elbo(params: dict, x: np.ndarray, noise: np.ndarray, likelihood: str, squash_mean: bool, kl: str) -> Gradient:
    """SGVB estimators A and B of the one-hidden-layer VAE and their gradients, written out and differentiated by hand.

    `params` are those of `mlp_vae` as float64; `noise` is `[L, J]`.
    """
    encoder, decoder = params["encoder"], params["decoder"]
    latent_dim, num_samples = noise.shape[1], len(noise)
    # Encoder
    hidden = np.tanh(x @ encoder["Dense_0"]["kernel"] + encoder["Dense_0"]["bias"])
    head = hidden @ encoder["Dense_1"]["kernel"] + encoder["Dense_1"]["bias"]
    mean, log_variance = head[:latent_dim], head[latent_dim:]
    scale = np.exp(0.5 * log_variance)
    z = mean + scale * noise  # [L, J]
    # Decoder
    hidden_z = np.tanh(z @ decoder["Dense_0"]["kernel"] + decoder["Dense_0"]["bias"])  # [L, H]
    out = hidden_z @ decoder["Dense_1"]["kernel"] + decoder["Dense_1"]["bias"]
    if likelihood == "bernoulli":
        log_likelihood = np.sum(x * out - np.logaddexp(0, out), axis=1)
        d_out = x - 1 / (1 + np.exp(-out))
    else:
        raw, log_noise = out[:, : len(x)], out[:, len(x) :]
        center = 1 / (1 + np.exp(-raw)) if squash_mean else raw
        residual = x - center
        log_likelihood = -0.5 * np.sum(np.log(2 * np.pi) + log_noise + residual**2 * np.exp(-log_noise), axis=1)
        d_center = residual * np.exp(-log_noise)
        d_raw = d_center * center * (1 - center) if squash_mean else d_center
        d_out = np.concatenate([d_raw, -0.5 + 0.5 * residual**2 * np.exp(-log_noise)], axis=1)
    # Backwards through the decoder
    d_out = d_out / num_samples
    d_pre = (d_out @ decoder["Dense_1"]["kernel"].T) * (1 - hidden_z**2)
    d_z = d_pre @ decoder["Dense_0"]["kernel"].T
    decoder_gradient = {
        "Dense_0": {"kernel": z.T @ d_pre, "bias": d_pre.sum(0)},
        "Dense_1": {"kernel": hidden_z.T @ d_out, "bias": d_out.sum(0)},
    }
    if kl == "analytic":
        divergence = -0.5 * np.sum(1 + log_variance - mean**2 - np.exp(log_variance))  # Appendix B
        d_mean, d_log_variance = -mean, 0.5 * (1 - np.exp(log_variance))
    else:
        log_q = -0.5 * np.sum(np.log(2 * np.pi) + log_variance + noise**2, axis=1)
        log_p = -0.5 * np.sum(np.log(2 * np.pi) + z**2, axis=1)
        divergence = np.mean(log_q - log_p)
        d_z = d_z - z / num_samples
        d_mean, d_log_variance = np.zeros(latent_dim), np.full(latent_dim, 0.5)
    d_mean = d_mean + d_z.sum(0)
    d_log_variance = d_log_variance + 0.5 * (d_z * noise).sum(0) * scale
    # Backwards through the encoder
    d_head = np.concatenate([d_mean, d_log_variance])
    d_hidden = (encoder["Dense_1"]["kernel"] @ d_head) * (1 - hidden**2)
    encoder_gradient = {
        "Dense_0": {"kernel": np.outer(x, d_hidden), "bias": d_hidden},
        "Dense_1": {"kernel": np.outer(hidden, d_head), "bias": d_head},
    }
    return Gradient(
        float(np.mean(log_likelihood) - divergence), {"encoder": encoder_gradient, "decoder": decoder_gradient}
    )
