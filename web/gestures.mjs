// Mouse, touch and keyboard on the plane.

import { project } from "./geometry.mjs";

const STEP = 0.1; // step of an arrow key, in units of the plane; a tenth of it with Shift
const STILL = 5; // pixels that the pointer may move during a click

// Call `on.move([x, y])`, `on.select(index)`, `on.hover(index, pixel)`, `on.step(direction)` and `on.view()`.
export function listenToPlane(marks, scatter, currentPoint, on) {
  const pointers = new Map();
  let drag = null;

  const placeOf = (event) => {
    const box = marks.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const marker = () => scatter.view.toPixel(project(scatter.plane, currentPoint()));
  const isOnMarker = ([x, y], event) => {
    const [mx, my] = marker();
    return Math.hypot(x - mx, y - my) <= (event.pointerType === "touch" ? 30 : 18);
  };

  marks.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    marks.setPointerCapture(event.pointerId);
    const place = placeOf(event);
    pointers.set(event.pointerId, place);
    on.hover(null);
    if (pointers.size === 2) drag = { kind: "pinch", span: spanOf(pointers) };
    else if (isOnMarker(place, event)) drag = { kind: "marker", offset: marker().map((value, i) => value - place[i]) };
    else drag = { kind: "pan", start: place, moved: false };
  });

  marks.addEventListener("pointermove", (event) => {
    const place = placeOf(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      hoverAt(place, event);
      return;
    }
    pointers.set(event.pointerId, place);
    if (drag.kind === "marker") {
      on.move(scatter.view.toPlane(place.map((value, i) => value + drag.offset[i])));
    } else if (drag.kind === "pinch" && pointers.size === 2) {
      const span = spanOf(pointers);
      scatter.pan(span.middle[0] - drag.span.middle[0], span.middle[1] - drag.span.middle[1]);
      scatter.zoom(span.length / Math.max(drag.span.length, 1), span.middle);
      drag.span = span;
      on.view();
    } else if (drag.kind === "pan") {
      drag.moved = drag.moved || Math.hypot(place[0] - drag.start[0], place[1] - drag.start[1]) > STILL;
      if (!drag.moved) return;
      scatter.pan(place[0] - before[0], place[1] - before[1]);
      on.view();
    }
  });

  function release(event) {
    const place = pointers.get(event.pointerId);
    if (!place) return;
    pointers.delete(event.pointerId);
    if (event.type === "pointerup" && drag.kind === "pan" && !drag.moved) {
      const index = scatter.imageAt(place, event.pointerType === "touch" ? 14 : 8);
      if (index === null) on.move(scatter.view.toPlane(place));
      else on.select(index);
    }
    // After a pinch, the remaining finger pans.
    if (pointers.size) drag = { kind: "pan", start: [...pointers.values()][0], moved: true };
  }
  marks.addEventListener("pointerup", release);
  marks.addEventListener("pointercancel", release);
  marks.addEventListener("pointerleave", () => on.hover(null));

  function hoverAt(place, event) {
    const overMarker = isOnMarker(place, event);
    const index = overMarker ? null : scatter.imageAt(place, 8);
    marks.dataset.over = overMarker ? "marker" : index === null ? "" : "point";
    on.hover(index, place);
  }

  marks.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      scatter.zoom(Math.exp(-0.0015 * event.deltaY * (event.deltaMode ? 16 : 1)), placeOf(event));
      on.hover(null);
      on.view();
    },
    { passive: false },
  );

  marks.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const zooms = { "+": 1.25, "=": 1.25, "-": 0.8 };
    if (event.key in directions) {
      const step = event.shiftKey ? STEP / 10 : STEP;
      const place = project(scatter.plane, currentPoint());
      on.move(place.map((value, i) => value + step * directions[event.key][i]));
    } else if (event.key in zooms) {
      scatter.zoom(zooms[event.key], marker());
      on.view();
    } else if (event.key === "0") {
      scatter.fit();
      on.view();
    } else if (["n", "p"].includes(event.key.toLowerCase())) {
      on.step(event.key.toLowerCase() === "n" ? 1 : -1);
    } else return;
    event.preventDefault();
  });
}

function spanOf(pointers) {
  const [[x, y], [otherX, otherY]] = [...pointers.values()];
  return { middle: [(x + otherX) / 2, (y + otherY) / 2], length: Math.hypot(x - otherX, y - otherY) };
}
