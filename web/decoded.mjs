// The image decoded at the point, and the nearest test images.

import { project } from "./geometry.mjs";
import { drawValues, heat } from "./pictures.mjs";
import { nearest } from "./points.mjs";
import { element } from "./sliders.mjs";

const NUM_NEIGHBOURS = 8;

// Return {show, neighbours}: `show()` draws the state, `neighbours()` returns the nearest images shown.
export function createDecoded({ byId, model, points, sprite, state, scatter, nameOf, select }) {
  let found = [];
  const thumbs = Array.from({ length: Math.min(NUM_NEIGHBOURS, points.count) }, (_, i) => {
    const thumb = createThumb(sprite, (index) => (points.labels ? nameOf(points.labels[index]) : `#${points.positions[index]}`));
    thumb.button.addEventListener("click", () => select(found[i].index));
    byId("neighbours").append(thumb.button);
    return thumb;
  });

  function show() {
    const { mean, deviation } = model.decode(state.z, state.label);
    const largest = deviation.reduce((one, other) => Math.max(one, other), 1e-9);
    drawValues(byId("mean"), mean, model.image);
    drawValues(byId("deviation"), deviation, model.image, heat, largest);
    byId("deviation-scale").textContent = `0 to ${largest.toPrecision(2)}`;
    const z = state.z[state.level];
    const place = project(scatter.plane, z).slice(0, scatter.plane.up ? 2 : 1);
    byId("where").textContent = `at ${place.map((value) => value.toFixed(2)).join(", ")}`;
    found = nearest(points, state.level, z, thumbs.length);
    found.forEach(({ index, distance }, i) => thumbs[i].show(index, distance));
  }

  return { show, neighbours: () => found };
}

// Create a button with a test image, its name and its distance.
function createThumb(sprite, nameOf) {
  const button = element("button");
  const [canvas, name, far] = [element("canvas"), element("b"), element("span")];
  button.type = "button";
  button.append(canvas, name, far);
  let shown = null;
  function show(index, distance) {
    far.textContent = distance < 10 ? distance.toFixed(2) : distance.toFixed(0);
    if (index === shown) return;
    shown = index;
    name.textContent = nameOf(index);
    sprite.fill(canvas, index);
    button.setAttribute("aria-label", `Go to the test image ${nameOf(index)}`);
  }
  return { button, show };
}
