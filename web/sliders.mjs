// One group of sliders per level, the most active latents first.

import { ACTIVE } from "./points.mjs";

const SHOWN_AT_FIRST = 12;

// Return a function that shows the current latents. Calls `onMove(level, latent, value)` when a slider is moved.
export function createSliders(container, model, points, onMove) {
  const rows = [];
  const isSingle = model.names.length === 1;
  for (const name of [...model.names].reverse()) {
    const level = points.levels[name];
    const order = [...level.variances.keys()].sort((one, other) => level.variances[other] - level.variances[one]);
    const active = level.variances.filter((variance) => variance > ACTIVE).length;
    const group = element("fieldset", "slider-group");
    const title = isSingle ? "" : `Level ${name}: `;
    group.append(element("legend", "", `${title}${active} of ${level.size} latents in use`));
    const list = element("div", "slider-rows");
    group.append(list);
    const [first, later] = [order.slice(0, SHOWN_AT_FIRST), order.slice(SHOWN_AT_FIRST)];
    const add = (latent) => {
      const row = createRow(isSingle ? "z" : name, latent, level, (value) => onMove(name, latent, value));
      list.append(row.element);
      rows.push({ name, latent, ...row });
    };
    first.forEach(add);
    if (later.length) {
      const more = element("button", "", `Show the other ${later.length}`);
      more.type = "button";
      more.addEventListener("click", () => {
        more.remove();
        const start = rows.length;
        later.forEach(add);
        rows[start].input.focus();
        container.dispatchEvent(new Event("more"));
      });
      group.append(more);
    }
    container.append(group);
  }
  return (z) => {
    for (const { name, latent, show } of rows) show(z[name][latent]);
  };
}

function createRow(name, latent, level, onMove) {
  const label = element("label", "slider");
  const text = element("span", "", `${name}[${latent}]`);
  const input = element("input");
  const output = element("output");
  Object.assign(input, { type: "range", step: "0.01", ...rangeOf(level, latent) });
  label.title = `Its posterior mean has a variance of ${level.variances[latent].toPrecision(2)} over the test images`;
  input.dataset.latent = `${name}[${latent}]`;
  input.addEventListener("input", () => onMove(Number(input.value)));
  label.append(text, input, output);
  let shown = null;
  const show = (value) => {
    const rounded = (Math.round(100 * value) / 100 + 0).toFixed(2); // + 0: no -0.00
    if (rounded === shown) return;
    shown = rounded;
    if (document.activeElement !== input || Math.abs(Number(input.value) - value) > 0.006) input.value = rounded;
    output.value = rounded;
  };
  return { element: label, input, show };
}

// Return a range that covers -3 to 3 and all posterior means.
function rangeOf({ means, size }, latent) {
  let largest = 3;
  for (let at = latent; at < means.length; at += size) largest = Math.max(largest, Math.abs(means[at]));
  const end = Math.ceil(2 * largest) / 2;
  return { min: -end, max: end };
}

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
