// Menus and buttons for the plane's directions, the classes shown, and the class to decode.

import { colorOf } from "./pictures.mjs";
import { axesOf } from "./points.mjs";
import { element } from "./sliders.mjs";

// Fill a menu with choices, some of which are grouped.
export function fillSelect(select, choices) {
  select.replaceChildren();
  let group = select;
  for (const { key, name, group: title } of choices) {
    if (title && group.label !== title) {
      group = select.appendChild(element("optgroup"));
      group.label = title;
    }
    group.append(new Option(name, key));
  }
}

// Connect the two menus of the plane's directions. Return a function that fills them for a level.
export function createAxes(menus, points, onPlane) {
  let [axes, keys] = [[], []];

  function show() {
    menus.forEach((menu, i) => (menu.value = keys[i] ?? ""));
    const [across, up] = keys.map((key) => axes.find((axis) => axis.key === key));
    onPlane(across.vector, up?.vector);
  }

  menus.forEach((menu, i) => {
    menu.addEventListener("change", () => {
      // Choosing the other menu's direction swaps the two.
      if (menu.value === keys[1 - i]) keys[1 - i] = keys[i];
      keys[i] = menu.value;
      show();
    });
  });
  return (level) => {
    axes = axesOf(points.levels[level]);
    // Of two latents, the first goes across.
    if (points.levels[level].size === 2) axes.sort((one, other) => (one.key < other.key ? -1 : 1));
    keys = axes.slice(0, 2).map((axis) => axis.key);
    for (const menu of menus) fillSelect(menu, axes);
    menus[1].parentElement.hidden = axes.length < 2;
    show();
  };
}

// Create the buttons that show and hide the images of a class.
export function createLegend(container, points, nameOf, scatter, ask) {
  const labels = points.labels ? [...new Set(points.labels)].sort((one, other) => one - other) : [];
  container.hidden = !labels.length;
  for (const label of labels) {
    const button = element("button");
    const dot = element("i");
    dot.style.background = colorOf(label);
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(dot, nameOf(label));
    button.addEventListener("click", () => {
      const isHidden = scatter.hidden.delete(label) ? false : Boolean(scatter.hidden.add(label));
      button.setAttribute("aria-pressed", String(!isHidden));
      scatter.redraw();
      ask();
    });
    container.append(button);
  }
}

// Create the buttons that choose the class to decode.
export function createClasses(field, model, nameOf, state) {
  field.hidden = !model.numClasses;
  const buttons = Array.from({ length: model.numClasses }, (_, label) => {
    const button = element("button", "", nameOf(label));
    button.type = "button";
    button.addEventListener("click", () => state.setLabel(label));
    return button;
  });
  field.append(...buttons);
  state.onChange(() => {
    buttons.forEach((button, label) => button.setAttribute("aria-pressed", String(label === state.label)));
  });
}
