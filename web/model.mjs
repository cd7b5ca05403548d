// The model: levels of latents, the lowest first. A model of one level has the level "z".

import { network } from "./layers.mjs";
import { moments, sigmoid } from "./likelihoods.mjs";

// Return {levels, decode, encode, prior} and more. Latents are {level: Float32Array}. `label` is the class that a
// conditional model takes; other models ignore it.
export function buildModel(described) {
  const { levels, features, posteriors, priors, numClasses, image } = described;
  const names = levels.map((level) => level.name);
  const size = image.height * image.width * image.channels;
  const decoder = network(described.decoder);
  const featuresOf = features.map(network);
  const posteriorsOf = posteriors.map(network);
  const priorsOf = priors.map(network);
  const withLabel = joined(numClasses);

  // Return the mean and standard deviation of p(x|z).
  function decode(z, label = 0) {
    return moments(described.likelihood, decoder(withLabel(z[names[0]], label)), size);
  }

  // Return the mean and scale of p(z_l | z_{l+1}), or of the prior for the highest level.
  function prior(level, z, label = 0) {
    const { size: count } = levels[level];
    if (level < names.length - 1) return gaussian(priorsOf[level](z[names[level + 1]]), count);
    if (priorsOf.length === names.length) return gaussian(priorsOf[level](withLabel(new Float32Array(0), label)), count);
    return { mean: new Float32Array(count), scale: new Float32Array(count).fill(1) };
  }

  // Return the means and scales of q(z|x) by level, each given the means of the levels that it depends on.
  function encode(x, label = 0) {
    return described.inference === "ladder" ? ladder(x) : bottomUp(withLabel(x, label));
  }

  function bottomUp(x) {
    const found = {};
    let below = x;
    names.forEach((name, level) => {
      found[name] = posterior(posteriorsOf[level](featuresOf[level](below)), level);
      below = found[name].mean;
    });
    return found;
  }

  function ladder(x) {
    const found = {};
    const outputs = [];
    let below = x;
    names.forEach((name, level) => {
      below = featuresOf[level](below);
      outputs.push(posteriorsOf[level](below).slice());
    });
    const z = {};
    for (let level = names.length - 1; level >= 0; level--) {
      const count = levels[level].size;
      const name = names[level];
      const isTop = level === names.length - 1;
      found[name] = isTop
        ? gaussian(outputs[level], count)
        : productOfGaussians(outputs[level], priorsOf[level](z[names[level + 1]]), count);
      z[name] = found[name].mean;
    }
    return found;
  }

  function posterior(outputs, level) {
    const count = levels[level].size;
    const found = gaussian(outputs, count);
    return described.posterior === "full_covariance" ? withCovariance(found, outputs, count) : found;
  }

  return { levels, names, image, size, numClasses, likelihood: described.likelihood, decode, prior, encode };
}

// Return a function that appends a one-hot label to a vector if the model has classes.
function joined(numClasses) {
  if (!numClasses) return (values) => values;
  return (values, label) => {
    const both = new Float32Array(values.length + numClasses);
    both.set(values);
    both[values.length + label] = 1;
    return both;
  };
}

// Split outputs into means and log-variances.
function gaussian(outputs, count) {
  const mean = outputs.slice(0, count);
  const scale = outputs.slice(count, 2 * count).map((logVariance) => Math.exp(0.5 * logVariance));
  return { mean, scale };
}

// Replace the scales by those of the full covariance: the row norms of the Cholesky factor whose diagonal they are.
function withCovariance({ mean, scale }, outputs, count) {
  let at = 2 * count;
  const norms = scale.map((diagonal, row) => {
    let sum = diagonal * diagonal;
    for (let column = 0; column < row; column++, at++) sum += outputs[at] ** 2;
    return Math.sqrt(sum);
  });
  return { mean, scale: norms };
}

// Return the normalized product of two Gaussians. Its precision is the sum of theirs.
function productOfGaussians(one, other, count) {
  const mean = new Float32Array(count);
  const scale = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const [logVariance, otherLogVariance] = [one[count + i], other[count + i]];
    const weight = sigmoid(otherLogVariance - logVariance);
    mean[i] = other[i] + weight * (one[i] - other[i]);
    scale[i] = 1 / Math.sqrt(Math.exp(-logVariance) + Math.exp(-otherLogVariance));
  }
  return { mean, scale };
}
