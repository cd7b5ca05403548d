// The page: what its parts show of the state, and what they do to it.

import { selfCheck } from "./check.mjs";
import { labelsAsText, save, vectorsAsText } from "./files.mjs";
import { moveInPlane, planeOf, project } from "./geometry.mjs";
import { listenToPlane } from "./gestures.mjs";
import { createInterpolation } from "./interpolation.mjs";
import { buildModel } from "./model.mjs";
import { createPad } from "./pad.mjs";
import { colorOf, drawValues, heat, loadSprite } from "./pictures.mjs";
import { axesOf, latentsOf, nearest, readPoints } from "./points.mjs";
import { createScatter } from "./scatter.mjs";
import { createSliders, element } from "./sliders.mjs";
import { createState, normalDraw } from "./state.mjs";
import { createThemeButton } from "./theme.mjs";

const NUM_NEIGHBOURS = 8;
const byId = (id) => document.getElementById(id);

async function start() {
  const payload = JSON.parse(byId("payload").textContent);
  const { about } = payload;
  const model = buildModel(payload.model);
  const result = showCheck(selfCheck(model, payload.checks));
  const points = readPoints(payload.points);
  const sprite = await loadSprite(points.sprite);
  const state = createState(model);
  const nameOf = (label) => about.classNames?.[label] ?? String(label);
  const labelOf = (index) => (model.numClasses ? points.labels[index] : 0);
  const view = { hovered: null, posterior: null, isPathShown: false, stepped: -1 };
  const showAbout = () => {
    const sizes = model.levels.map((level) => level.size).join(" + ");
    const likelihood = model.likelihood.replaceAll("_", " ");
    const shown = `${points.count.toLocaleString("en")} of ${about.numTest.toLocaleString("en")} test images`;
    byId("about").textContent =
      `${payload.model.family.replaceAll("_", " ")} model, ${sizes} latents, ${likelihood} likelihood, ` +
      `${about.binarization} pixels; ${shown}`;
  };
  showAbout();

  // Everything is drawn in one frame, however often it was asked for since the last.
  const frames = { intervals: [], work: [], last: null };
  let isAsked = false;
  function ask() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame((now) => {
      isAsked = false;
      if (frames.last !== null && now - frames.last < 500) frames.intervals.push(now - frames.last);
      frames.last = now;
      const before = performance.now();
      draw();
      frames.work.push(performance.now() - before);
    });
  }

  const stage = byId("stage");
  const marks = byId("marks");
  const scatter = createScatter({ stage, dots: byId("dots"), marks }, points, sprite);
  if (points.labels) scatter.nameOf = nameOf;
  scatter.resize();

  function draw() {
    scatter.drawDots();
    const z = state.z[state.level];
    scatter.drawMarks({
      prior: model.prior(state.levelIndex, state.z, state.label),
      posterior: view.posterior?.[state.level],
      path: view.isPathShown ? interpolation.ends.map((end) => end[state.level]) : null,
      point: z,
      hovered: view.hovered,
    });
    if (view.isMoved) drawDecoded();
    view.isMoved = false;
  }

  function drawDecoded() {
    const { mean, deviation } = model.decode(state.z, state.label);
    drawValues(byId("mean"), mean, model.image);
    const largest = deviation.reduce((one, other) => Math.max(one, other), 1e-9);
    drawValues(byId("deviation"), deviation, model.image, heat, largest);
    byId("deviation-scale").textContent = `0 to ${largest.toPrecision(2)}`;
    const place = project(scatter.plane, state.z[state.level]).map((value) => value.toFixed(2));
    byId("where").textContent = `at ${place.slice(0, scatter.plane.up ? 2 : 1).join(", ")}`;
    showSliders(state.z);
    neighbours = nearest(points, state.level, state.z[state.level], thumbs.length);
    neighbours.forEach(({ index, distance }, i) => thumbs[i].show(index, distance));
  }

  // Nearest test images

  let neighbours = [];
  const thumbs = Array.from({ length: Math.min(NUM_NEIGHBOURS, points.count) }, (_, i) => {
    const button = element("button");
    const canvas = element("canvas");
    const text = element("span");
    button.type = "button";
    button.append(canvas, text);
    button.addEventListener("click", () => select(neighbours[i].index));
    byId("neighbours").append(button);
    let shown = null;
    const show = (index, distance) => {
      const label = points.labels ? nameOf(points.labels[index]) : `#${index}`;
      text.textContent = `${label}, ${distance.toFixed(1)}`;
      if (index === shown) return;
      shown = index;
      sprite.fill(canvas, index);
      button.setAttribute("aria-label", `Go to test image ${index}${points.labels ? `, class ${label}` : ""}`);
    };
    return { show };
  });

  const showSliders = createSliders(byId("sliders"), model, points, (level, latent, value) => {
    const z = state.z[level].slice();
    z[latent] = value;
    view.posterior = null;
    state.move(level, z);
  });
  byId("sliders").addEventListener("more", () => showSliders(state.z));

  function select(index) {
    view.stepped = index;
    view.posterior = null;
    state.go(latentsOf(points, index), labelOf(index));
    announce(`Test image ${index}${points.labels ? `, class ${nameOf(points.labels[index])}` : ""}`);
  }

  // Interpolation

  const other = points.labels ? Math.max(points.labels.findIndex((label) => label !== points.labels[0]), 1) : 1;
  const ends = [latentsOf(points, 0), latentsOf(points, other)];
  const controls = { strip: byId("strip"), slider: byId("between"), play: byId("play") };
  const interpolation = createInterpolation(controls, model, ends, () => state.label, (z) => {
    [view.posterior, view.isPathShown] = [null, true];
    state.go(z);
  });
  ["set-a", "set-b"].forEach((id, which) => {
    byId(id).addEventListener("click", () => {
      view.isPathShown = true;
      interpolation.setEnd(which, state.z);
      ask();
    });
  });

  // The plane

  listenToPlane(marks, scatter, () => state.z[state.level], {
    move(place) {
      view.posterior = null;
      state.move(state.level, moveInPlane(scatter.plane, state.z[state.level], place));
    },
    select,
    step(direction) {
      const next = view.stepped < 0 ? (neighbours[0]?.index ?? 0) : view.stepped + direction;
      select((next + points.count) % points.count);
    },
    hover(index, place) {
      if (view.hovered !== index) ask();
      view.hovered = index;
      showHover(index, place);
    },
    view: ask,
  });
  marks.addEventListener("keyup", (event) => {
    if (event.key.startsWith("Arrow")) announce(`Point ${byId("where").textContent}`);
  });
  const zooms = { "zoom-in": () => scatter.zoom(1.5), "zoom-out": () => scatter.zoom(1 / 1.5), "zoom-all": scatter.fit };
  for (const [id, zoom] of Object.entries(zooms)) byId(id).addEventListener("click", () => ask(zoom()));

  function showHover(index, place) {
    const box = byId("hover");
    box.hidden = index === null;
    if (index === null) return;
    sprite.fill(box.querySelector("canvas"), index);
    const label = points.labels ? `${nameOf(points.labels[index])} ` : "";
    box.querySelector("span").textContent = `${label}#${index}`;
    const isRight = place[0] > scatter.width - box.offsetWidth - 24;
    box.style.left = `${isRight ? place[0] - box.offsetWidth - 14 : place[0] + 14}px`;
    box.style.top = `${Math.min(Math.max(place[1] - 34, 4), scatter.height - box.offsetHeight - 4)}px`;
  }

  function announce(text) {
    byId("announcement").textContent = text;
  }

  const chooseAxes = createAxes(points, (across, up) => {
    scatter.setPlane(state.level, planeOf(across, up));
    view.isMoved = true;
    ask();
  });
  fillSelect(byId("level"), [...model.names].reverse().map((name) => ({ key: name, name })));
  byId("level-field").hidden = model.names.length === 1;
  byId("level").addEventListener("change", (event) => state.setLevel(event.target.value));

  // Drawing

  const isMnist = about.data === "mnist";
  byId("center-field").hidden = !isMnist;
  const pad = createPad(byId("pad"), model.image, {
    isCentered: () => isMnist && byId("pad-center").checked,
    isBinary: about.binarization !== "grey",
    onChange(values) {
      drawValues(byId("pad-seen"), values, model.image);
      const encoded = model.encode(values, state.label);
      const z = Object.fromEntries(model.names.map((name) => [name, encoded[name].mean]));
      drawValues(byId("pad-again"), model.decode(z, state.label).mean, model.image);
      if (!view.isReady) return;
      interpolation.stop();
      view.posterior = encoded;
      state.go(z);
    },
  });
  byId("pad-clear").addEventListener("click", pad.clear);
  byId("pad-center").addEventListener("change", pad.refresh);
  byId("pad-copy").addEventListener("click", () => {
    const { index } = neighbours[0];
    pad.copy((context, width, height) => sprite.draw(context, index, 0, 0, width, height));
  });
  pad.refresh();

  // Files

  byId("save-vectors").addEventListener("click", () => save(vectorsAsText(points, state.level), "vectors.tsv"));
  byId("save-metadata").addEventListener("click", () => save(labelsAsText(points, nameOf), "metadata.tsv"));

  byId("to-prior-mean").addEventListener("click", () => leave(() => state.goToPrior(() => 0)));
  byId("to-draw").addEventListener("click", () => leave(() => state.goToPrior(normalDraw)));
  function leave(go) {
    view.posterior = null;
    go();
  }

  createLegend(points, nameOf, scatter, ask);
  createClasses(model, nameOf, state, () => interpolation.refresh());
  createThemeButton(byId("theme"), () => {
    scatter.redraw();
    ask();
  });
  state.onChange((what) => {
    if (what === "level") chooseAxes(state.level);
    view.isMoved = true;
    ask();
  });
  new ResizeObserver(() => {
    scatter.resize();
    ask();
  }).observe(stage);
  byId("level").value = state.level;
  chooseAxes(state.level);
  scatter.fit();
  select(0);
  view.isReady = true;
  // For tests: what a person sees, in numbers.
  window.aevbExplorer = { result, model, state, scatter, frames, points, payload };
}

function showCheck(result) {
  const badge = byId("self-check");
  const error = Number.isNaN(result.pixels) ? "not a number" : result.pixels.toExponential(0);
  badge.dataset.result = result.passed ? "pass" : "fail";
  badge.textContent = result.passed ? `Self-check: PASS` : `Self-check: FAIL, pixels differ by ${error}`;
  badge.title =
    `${result.count} latents and images computed here and by JAX: pixels differ by ${error} at most, ` +
    `latents by ${result.latents.toExponential(0)}`;
  if (!result.passed) {
    showProblem("This browser computes other images than JAX did: do not trust what is shown below.");
  }
  return result;
}

function showProblem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

function fillSelect(select, choices) {
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

// Two menus of the plane's directions. Return a function that fills them for a level.
function createAxes(points, onPlane) {
  const menus = [byId("axis-across"), byId("axis-up")];
  let [axes, keys] = [[], []];

  function show() {
    menus.forEach((menu, i) => (menu.value = keys[i] ?? ""));
    const [across, up] = keys.map((key) => axes.find((axis) => axis.key === key));
    onPlane(across.vector, up?.vector);
  }

  menus.forEach((menu, i) => {
    menu.addEventListener("change", () => {
      // The direction that was here goes there, where one is asked for twice.
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

// Buttons that show and hide the images of a class.
function createLegend(points, nameOf, scatter, ask) {
  const labels = points.labels ? [...new Set(points.labels)].sort((one, other) => one - other) : [];
  byId("legend").hidden = !labels.length;
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
    byId("legend").append(button);
  }
}

// Buttons for the class that a model decodes given.
function createClasses(model, nameOf, state, onChange) {
  const field = byId("class-field");
  field.hidden = !model.numClasses;
  const buttons = Array.from({ length: model.numClasses }, (_, label) => {
    const button = element("button", "", nameOf(label));
    button.type = "button";
    button.addEventListener("click", () => {
      state.setLabel(label);
      onChange();
    });
    return button;
  });
  field.append(...buttons);
  state.onChange(() => {
    buttons.forEach((button, label) => button.setAttribute("aria-pressed", String(label === state.label)));
  });
}

start().catch((error) => {
  const badge = byId("self-check");
  [badge.dataset.result, badge.textContent] = ["fail", "Self-check: FAIL"];
  showProblem(`The page could not start: ${error.message}`);
  throw error;
});
