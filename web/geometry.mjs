// Planes through a latent space, spanned by two orthonormal directions: projections, ellipses and windows.

export function dot(one, other, at = 0) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[at + i];
  return sum;
}

// Return orthonormal {across, up}. `up` is orthogonalized; it is null if there is no second direction.
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

// Return the coordinates [x, y] of a point. The plane goes through the origin of the space.
export function project({ across, up }, z, at = 0) {
  return [dot(across, z, at), up ? dot(up, z, at) : 0];
}

// Move a point to other coordinates within the plane, and keep its components orthogonal to the plane.
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

// Return a window on a plane with the given center and scale, in pixels per unit. y points up.
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

// Return the window zoomed by a factor around a fixed pixel.
export function zoomed(width, height, view, factor, [px, py]) {
  const scale = Math.min(Math.max(view.scale * factor, 2), 4000);
  const [x, y] = view.toPlane([px, py]);
  return windowOf(width, height, [x - (px - width / 2) / scale, y + (py - height / 2) / scale], scale);
}
