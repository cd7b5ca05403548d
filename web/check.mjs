// The self-check, which compares the page's results with those that JAX computed when the page was written.

import { decodeArray, largestDifference } from "./arrays.mjs";

export const MOST_PIXEL_ERROR = 1e-2; // of the mean and the standard deviation of p(x|z)
export const MOST_LATENT_ERROR = 2e-2; // of latents, in units of the scale of their prior; relative above 1

// Return {passed, pixels, latents, count}: the largest errors over all references.
export function selfCheck(model, checks) {
  let pixels = 0;
  let latents = 0;
  const worse = (one, other) => (Number.isNaN(one) || Number.isNaN(other) ? NaN : Math.max(one, other));
  for (const check of checks) {
    const z = decodeLevels(check.z);
    const label = check.condition ?? 0;
    const { mean, deviation } = model.decode(z, label);
    pixels = worse(pixels, largestDifference(mean, decodeArray(check.mean)));
    pixels = worse(pixels, largestDifference(deviation, decodeArray(check.deviation)));
    model.names.forEach((name, level) => {
      const found = model.prior(level, z, label);
      const expected = decodeArray(check.prior[name]);
      const count = model.levels[level].size;
      latents = worse(latents, relativeDifference(found.mean, expected.subarray(0, count)));
      latents = worse(latents, relativeDifference(found.scale, expected.subarray(count)));
    });
    if (!check.image) continue;
    const encoded = model.encode(decodeArray(check.image), label);
    const scales = decodeLevels(check.scale);
    for (const name of model.names) {
      latents = worse(latents, relativeDifference(encoded[name].mean, z[name]));
      latents = worse(latents, relativeDifference(encoded[name].scale, scales[name]));
    }
  }
  const passed = checks.length > 0 && pixels <= MOST_PIXEL_ERROR && latents <= MOST_LATENT_ERROR;
  return { passed, pixels, latents, count: checks.length };
}

export function decodeLevels(levels) {
  return Object.fromEntries(Object.entries(levels).map(([name, values]) => [name, decodeArray(values)]));
}

// Return the largest difference, relative to expected values whose magnitude is above 1.
function relativeDifference(found, expected) {
  const scaled = (values) => values.map((value, i) => value / Math.max(1, Math.abs(expected[i])));
  return largestDifference(scaled(found), scaled(expected));
}
