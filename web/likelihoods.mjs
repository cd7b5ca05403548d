// The mean and the standard deviation of p(x|z) for every value of x, from a decoder's outputs [outputs, values].

const LARGEST = 255;

export function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

// Return {mean, deviation}, two Float32Arrays.
export function moments(likelihood, outputs, size) {
  const mean = new Float32Array(size);
  const deviation = new Float32Array(size);
  const of = LIKELIHOODS[likelihood];
  const found = [0, 0];
  for (let i = 0; i < size; i++) {
    of(outputs, i, size, found);
    mean[i] = found[0];
    deviation[i] = Math.sqrt(Math.max(found[1], 0));
  }
  return { mean, deviation };
}

// Each function sets the mean and the variance of value i.
const LIKELIHOODS = {
  bernoulli(outputs, i, size, found) {
    const p = sigmoid(outputs[i]);
    found[0] = p;
    found[1] = p * (1 - p);
  },
  gaussian(outputs, i, size, found) {
    found[0] = outputs[i];
    found[1] = Math.exp(outputs[size + i]);
  },
  squashed_gaussian(outputs, i, size, found) {
    found[0] = sigmoid(outputs[i]);
    found[1] = Math.exp(outputs[size + i]);
  },
  gaussian_fixed_scale(outputs, i, size, found) {
    found[0] = outputs[i];
    found[1] = 0.5;
  },
  // The moments of K are sums of P(K > k) and (2 k + 1) P(K > k), with P(K > k) = sigmoid((center - k - 1/2) width).
  discretized_logistic(outputs, i, size, found) {
    const center = LARGEST * (0.5 + outputs[i]);
    const width = Math.exp(Math.min(1.5 - outputs[size + i] - Math.log(LARGEST), 30));
    let first = 0;
    let second = 0;
    for (let k = 0; k < LARGEST; k++) {
      const above = sigmoid((center - k - 0.5) * width);
      first += above;
      second += (2 * k + 1) * above;
    }
    setScaled(found, first, second);
  },
  // The same over 1..254, with the tails at 1 and 254, and separate masses for black and white.
  spiked_logistic(outputs, i, size, found) {
    const center = LARGEST * (0.5 + outputs[i]);
    const width = Math.exp(Math.min(1.5 - outputs[size + i] - Math.log(LARGEST), 30));
    const top = Math.max(outputs[2 * size + i] - 2, outputs[3 * size + i] - 2, 0);
    const black = Math.exp(outputs[2 * size + i] - 2 - top);
    const white = Math.exp(outputs[3 * size + i] - 2 - top);
    const inner = Math.exp(-top);
    const total = black + white + inner;
    let first = 1;
    let second = 1;
    for (let k = 1; k < LARGEST - 1; k++) {
      const above = sigmoid((center - k - 0.5) * width);
      first += above;
      second += (2 * k + 1) * above;
    }
    setScaled(found, (inner * first + white * LARGEST) / total, (inner * second + white * LARGEST * LARGEST) / total);
  },
  beta_binomial(outputs, i, size, found) {
    const p = sigmoid(Math.min(Math.max(outputs[i], -20), 20));
    const s = Math.exp(Math.min(Math.max(outputs[size + i] + Math.LN2, -20), 20));
    found[0] = p;
    found[1] = (p * (1 - p) * (LARGEST + s)) / (LARGEST * (1 + s));
  },
  categorical(outputs, i, size, found) {
    let largest = -Infinity;
    for (let k = 0; k <= LARGEST; k++) largest = Math.max(largest, outputs[k * size + i]);
    let total = 0;
    let first = 0;
    let second = 0;
    for (let k = 0; k <= LARGEST; k++) {
      const mass = Math.exp(outputs[k * size + i] - largest);
      total += mass;
      first += mass * k;
      second += mass * k * k;
    }
    setScaled(found, first / total, second / total);
  },
};

function setScaled(found, first, second) {
  found[0] = first / LARGEST;
  found[1] = (second - first * first) / (LARGEST * LARGEST);
}
