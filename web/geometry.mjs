// Planes through a latent space: two orthonormal directions, and what is seen of a point, a Gaussian and a window.

export function dot(one, other, at = 0) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[at + i];
  return sum;
}

// Return {across, up}, orthonormal; `up` is made so, and is null where a space has no second direction.
export function planeOf(across, up) {
  const first = unit(across);
  if (!up) return { across: first, up: null };
  const along = dot(first, up);
  const rest = up.map((value, i) => value - along * first[i]);
  return { across: first, up: Math.hypot(...rest) > 1e-6 ? unit(rest) : null };
}

function unit(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

// Return [x, y] of a point. The origin of the plane is that of the space.
export function project({ across, up }, z, at = 0) {
  return [dot(across, z, at), up ? dot(up, z, at) : 0];
}

// Return the point with other coordinates in the plane, the same in every direction out of it.
export function moveInPlane({ across, up }, z, [x, y]) {
  const [oldX, oldY] = project({ across, up }, z);
  return z.map((value, i) => value + (x - oldX) * across[i] + (up ? (y - oldY) * up[i] : 0));
}

// Return the ellipse of one standard deviation of a Gaussian in the plane: its center, radii and angle.
export function ellipseOf(plane, { mean, scale }) {
  const { across, up } = plane;
  let [a, b, c] = [0, 0, 0];
  for (let i = 0; i < scale.length; i++) {
    const variance = scale[i] * scale[i];
    a += across[i] * across[i] * variance;
    if (!up) continue;
    b += across[i] * up[i] * variance;
    c += up[i] * up[i] * variance;
  }
  const middle = (a + c) / 2;
  const spread = Math.hypot((a - c) / 2, b);
  const radii = [Math.sqrt(middle + spread), Math.sqrt(Math.max(middle - spread, 0))];
  return { center: project(plane, mean), radii, angle: 0.5 * Math.atan2(2 * b, a - c) };
}

// A window on a plane: what is at its center, and how many pixels a unit has. y points up.
export function windowOf(width, height, center, scale) {
  return {
    center,
    scale,
    toPixel: ([x, y]) => [width / 2 + (x - center[0]) * scale, height / 2 - (y - center[1]) * scale],
    toPlane: ([px, py]) => [center[0] + (px - width / 2) / scale, center[1] - (py - height / 2) / scale],
  };
}

// Return the window that shows all of [minX, maxX, minY, maxY] with a margin.
export function windowAround(width, height, [minX, maxX, minY, maxY]) {
  const scale = 0.9 * Math.min(width / Math.max(maxX - minX, 1e-6), height / Math.max(maxY - minY, 1e-6));
  return windowOf(width, height, [(minX + maxX) / 2, (minY + maxY) / 2], scale);
}

// Return the same window zoomed by a factor around a pixel, which stays where it is.
export function zoomed(width, height, view, factor, [px, py]) {
  const scale = Math.min(Math.max(view.scale * factor, 2), 4000);
  const [x, y] = view.toPlane([px, py]);
  return windowOf(width, height, [x - (px - width / 2) / scale, y + (py - height / 2) / scale], scale);
}
