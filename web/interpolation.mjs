// Interpolation along the straight line between two points of latent space.

import { drawValues } from "./pictures.mjs";
import { element } from "./sliders.mjs";

const SHOWN = 9;
const SECONDS = 3; // from one end to the other

// Return the latents at a fraction of the way from one point to another, in every level.
export function between(one, other, share) {
  const mixed = (name) => one[name].map((value, i) => value + share * (other[name][i] - value));
  return Object.fromEntries(Object.keys(one).map((name) => [name, mixed(name)]));
}

// Return {ends, setEnd, show, stop}: `ends` are the latents of A and B, `show(label)` draws the images between them.
export function createInterpolation({ strip, slider, play }, model, ends, onMove) {
  const canvases = Array.from({ length: SHOWN }, () => strip.appendChild(element("canvas")));
  let [started, shown] = [null, null];

  function show(label) {
    if (label === shown) return;
    shown = label;
    canvases.forEach((canvas, i) => {
      const z = between(...ends, i / (SHOWN - 1));
      drawValues(canvas, model.decode(z, label).mean, model.image);
    });
  }

  function go() {
    onMove(between(...ends, Number(slider.value)));
  }

  function stop() {
    started = null;
    play.setAttribute("aria-pressed", "false");
    play.textContent = "Play";
  }

  function tick(now) {
    if (started === null) return;
    const way = ((now - started) / (1000 * SECONDS)) % 2;
    slider.value = way < 1 ? way : 2 - way; // there and back
    go();
    requestAnimationFrame(tick);
  }

  slider.addEventListener("input", () => {
    stop();
    go();
  });
  play.addEventListener("click", () => {
    if (started !== null) return stop();
    started = performance.now() - 1000 * SECONDS * Number(slider.value);
    play.setAttribute("aria-pressed", "true");
    play.textContent = "Stop";
    return requestAnimationFrame(tick);
  });
  return {
    ends,
    show,
    stop,
    setEnd(which, z) {
      ends[which] = Object.fromEntries(Object.entries(z).map(([name, values]) => [name, values.slice()]));
      slider.value = which;
      shown = null;
    },
  };
}
