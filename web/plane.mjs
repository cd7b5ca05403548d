// The plane: its dots, its point and their controls, and the image under the mouse.

import { createAxes, createLegend, fillSelect } from "./controls.mjs";
import { moveInPlane, planeOf } from "./geometry.mjs";
import { listenToPlane } from "./gestures.mjs";

// Connect the plane to the state. Return a function that chooses axes for the level in view.
export function createPlane(app, neighbours) {
  const { byId, model, points, state, scatter, view, ask, select, announce } = app;
  const marks = byId("marks");
  listenToPlane(marks, scatter, () => state.z[state.level], {
    move(place) {
      view.posterior = null;
      state.move(state.level, moveInPlane(scatter.plane, state.z[state.level], place));
    },
    select,
    step(direction) {
      const next = view.stepped < 0 ? neighbours()[0].index : view.stepped + direction;
      select((next + points.count) % points.count);
    },
    hover(index, place) {
      if (view.hovered !== index) ask();
      view.hovered = index;
      showHover(app, index, place);
    },
    view: ask,
  });
  marks.addEventListener("keyup", (event) => {
    if (event.key.startsWith("Arrow")) announce(`Point ${byId("where").textContent}`);
  });
  const zooms = { "zoom-in": () => scatter.zoom(1.5), "zoom-out": () => scatter.zoom(1 / 1.5), "zoom-all": scatter.fit };
  for (const [id, zoom] of Object.entries(zooms)) byId(id).addEventListener("click", () => ask(zoom()));

  fillSelect(byId("level"), [...model.names].reverse().map((name) => ({ key: name, name })));
  byId("level-field").hidden = byId("of-level").hidden = model.names.length === 1;
  byId("level").addEventListener("change", (event) => state.setLevel(event.target.value));
  createLegend(byId("legend"), points, app.nameOf, scatter, ask);
  return createAxes([byId("axis-across"), byId("axis-up")], points, (across, up) => {
    scatter.setPlane(state.level, planeOf(across, up));
    view.isMoved = true;
    ask();
  });
}

// Show an image beside a place on the plane, or hide it if `index` is null.
function showHover({ byId, points, sprite, scatter, nameOf }, index, place) {
  const box = byId("hover");
  box.hidden = index === null;
  if (index === null) return;
  sprite.fill(box.querySelector("canvas"), index);
  const label = points.labels ? `${nameOf(points.labels[index])} ` : "";
  box.querySelector("span").textContent = `${label}#${points.positions[index]}`;
  const isRight = place[0] > scatter.width - box.offsetWidth - 24;
  box.style.left = `${isRight ? place[0] - box.offsetWidth - 14 : place[0] + 14}px`;
  box.style.top = `${Math.min(Math.max(place[1] - 34, 4), scatter.height - box.offsetHeight - 4)}px`;
}
