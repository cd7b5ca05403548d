// The test images: their latents in each level, and the nearest ones to a point.

import { decodeArray } from "./arrays.mjs";

export const ACTIVE = 0.01; // least variance of an active unit's posterior mean over the images (Burda et al. 2016)

// Return the points of a payload. `positions` are the positions of the images in the test set. `levels[name]` has flat
// `means` [count, size], `components`, `explained` and `variances`.
export function readPoints(encoded) {
  const levels = {};
  for (const [name, level] of Object.entries(encoded.levels)) {
    levels[name] = {
      size: level.variances.length,
      means: decodeArray(level.means),
      components: rowsOf(decodeArray(level.components), level.variances.length),
      explained: level.explained,
      variances: level.variances,
    };
  }
  const labels = encoded.labels ? decodeArray(encoded.labels) : null;
  return { count: encoded.count, positions: decodeArray(encoded.positions), labels, levels, sprite: encoded.sprite };
}

function rowsOf(values, size) {
  const rows = [];
  for (let at = 0; at < values.length; at += size) rows.push(values.slice(at, at + size));
  return rows;
}

// Return the latents of one image by level.
export function latentsOf(points, index) {
  const of = ([name, { means, size }]) => [name, means.slice(index * size, (index + 1) * size)];
  return Object.fromEntries(Object.entries(points.levels).map(of));
}

// Return the `count` images whose means in a level are nearest to z, nearest first, as [{index, distance}].
export function nearest(points, level, z, count) {
  const { means, size } = points.levels[level];
  const found = [];
  for (let index = 0, at = 0; index < points.count; index++, at += size) {
    const limit = found.length < count ? Infinity : found[count - 1].distance;
    let distance = 0;
    for (let i = 0; i < size && distance < limit; i++) distance += (means[at + i] - z[i]) ** 2;
    if (distance >= limit) continue;
    if (found.length === count) found.pop();
    let place = found.length;
    while (place > 0 && found[place - 1].distance > distance) place--;
    found.splice(place, 0, { index, distance });
  }
  return found.map((each) => ({ index: each.index, distance: Math.sqrt(each.distance) }));
}

// Return the directions to choose from: principal components, then latents by decreasing variance.
export function axesOf(level) {
  const { size, components, explained, variances } = level;
  const order = [...variances.keys()].sort((one, other) => variances[other] - variances[one]);
  const latents = order.map((i) => ({
    key: `z${i}`,
    name: `z[${i}]`,
    group: variances[i] > ACTIVE ? "Latents, most active first" : "Hardly used",
    vector: Float32Array.from({ length: size }, (_, j) => (i === j ? 1 : 0)),
  }));
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
  const ofComponent = (vector, k) => ({
    key: `pc${k}`,
    name: `PC ${k + 1} (${percent(explained[k])})`,
    group: "Principal components",
    vector,
  });
  return size > 2 ? [...components.map(ofComponent), ...latents] : latents;
}
