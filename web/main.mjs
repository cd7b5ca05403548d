// The page: its parts, the state that they share, and the frame in which they are drawn.

import { selfCheck } from "./check.mjs";
import { createClasses } from "./controls.mjs";
import { createDecoded } from "./decoded.mjs";
import { createDrawing } from "./drawing.mjs";
import { labelsAsText, save, vectorsAsText } from "./files.mjs";
import { createInterpolation } from "./interpolation.mjs";
import { drawMarks } from "./marks.mjs";
import { buildModel } from "./model.mjs";
import { loadSprite } from "./pictures.mjs";
import { createPlane } from "./plane.mjs";
import { latentsOf, readPoints } from "./points.mjs";
import { createScatter } from "./scatter.mjs";
import { createSliders } from "./sliders.mjs";
import { createState, normalDraw } from "./state.mjs";
import { createThemeButton } from "./theme.mjs";

const byId = (id) => document.getElementById(id);

async function start() {
  const app = await createApp();
  const { points, state, scatter, view, ask, select } = app;
  const decoded = createDecoded(app);
  const interpolation = createInterpolationOf(app);
  const showSliders = createSlidersOf(app);
  const chooseAxes = createPlane(app, decoded.neighbours);
  createDrawing(app, () => decoded.neighbours()[0].index, (encoded, z) => {
    interpolation.stop();
    view.posterior = encoded;
    state.go(z);
  });
  createClasses(byId("class-field"), app.model, app.nameOf, state);
  createButtons(app);
  app.draw = () => {
    scatter.drawDots();
    drawMarks(byId("marks"), scatter, {
      prior: app.model.prior(state.levelIndex, state.z, state.label),
      posterior: view.posterior?.[state.level],
      path: view.isPathShown ? interpolation.ends.map((end) => end[state.level]) : null,
      point: state.z[state.level],
      hovered: view.hovered,
    });
    if (!view.isMoved) return;
    view.isMoved = false;
    decoded.show();
    showSliders(state.z);
    interpolation.show(state.label);
  };
  state.onChange((what) => {
    if (what === "level") chooseAxes(state.level);
    view.isMoved = true;
    ask();
  });
  new ResizeObserver(() => {
    scatter.resize();
    ask();
  }).observe(byId("stage"));
  byId("level").value = state.level;
  chooseAxes(state.level);
  select(0);
  // For tests.
  window.aevbExplorer = { ...app, points };
}

// Return what all parts share.
async function createApp() {
  const payload = JSON.parse(byId("payload").textContent);
  const { about } = payload;
  const model = buildModel(payload.model);
  const result = showCheck(selfCheck(model, payload.checks));
  const points = readPoints(payload.points);
  const sprite = await loadSprite(points.sprite);
  const state = createState(model);
  const nameOf = (label) => about.classNames?.[label] ?? String(label);
  const scatter = createScatter({ stage: byId("stage"), dots: byId("dots"), marks: byId("marks") }, points, sprite);
  if (points.labels) scatter.nameOf = nameOf;
  scatter.resize();
  byId("about").textContent = describe(payload, points);
  const view = { hovered: null, posterior: null, isPathShown: false, isMoved: true, stepped: -1 };
  const app = { byId, payload, about, model, result, points, sprite, state, nameOf, scatter, view };
  const announce = (text) => (byId("announcement").textContent = text);
  function select(index) {
    view.stepped = index;
    view.posterior = null;
    state.go(latentsOf(points, index), model.numClasses ? points.labels[index] : 0);
    announce(`Test image ${points.positions[index]}${points.labels ? `, class ${nameOf(points.labels[index])}` : ""}`);
  }
  const { ask, frames } = createFrames(() => app.draw());
  return Object.assign(app, { announce, select, ask, frames });
}

function describe({ model, about }, points) {
  const spaced = (name) => name.replace(/_/g, " ");
  const sizes = model.levels.map((level) => level.size).join(" + ");
  const shown = `${points.count.toLocaleString("en")} of ${about.numTest.toLocaleString("en")} test images`;
  const kinds = `${spaced(model.family)} model, ${sizes} latents, ${spaced(model.likelihood)} likelihood`;
  return `${kinds}, ${about.binarization} pixels; ${shown}`;
}

// Return {ask, frames}: all requests since the last frame are drawn in one frame.
function createFrames(draw) {
  const frames = { intervals: [], work: [], last: -Infinity };
  let isAsked = false;
  function frame(now) {
    isAsked = false;
    if (now - frames.last < 500) frames.intervals.push(now - frames.last);
    frames.last = now;
    const before = performance.now();
    draw();
    frames.work.push(performance.now() - before);
  }
  function ask() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(frame);
  }
  return { ask, frames };
}

function createSlidersOf({ model, points, state, view }) {
  const show = createSliders(byId("sliders"), model, points, (level, latent, value) => {
    const z = state.z[level].slice();
    z[latent] = value;
    view.posterior = null;
    state.move(level, z);
  });
  byId("sliders").addEventListener("more", () => show(state.z));
  return show;
}

// Start with the first image and the first image of another class as the ends.
function createInterpolationOf({ model, points, state, view, ask }) {
  const other = points.labels ? Math.max(points.labels.findIndex((label) => label !== points.labels[0]), 1) : 1;
  const ends = [latentsOf(points, 0), latentsOf(points, other)];
  const controls = { strip: byId("strip"), slider: byId("between"), play: byId("play") };
  const interpolation = createInterpolation(controls, model, ends, (z) => {
    [view.posterior, view.isPathShown] = [null, true];
    state.go(z);
  });
  ["set-a", "set-b"].forEach((id, which) => {
    byId(id).addEventListener("click", () => {
      [view.isPathShown, view.isMoved] = [true, true];
      interpolation.setEnd(which, state.z);
      ask();
    });
  });
  return interpolation;
}

function createButtons({ points, state, scatter, view, nameOf, ask }) {
  const actions = {
    "save-vectors": () => save(vectorsAsText(points, state.level), "vectors.tsv"),
    "save-metadata": () => save(labelsAsText(points, nameOf), "metadata.tsv"),
    "to-prior-mean": () => state.goToPrior(() => 0),
    "to-draw": () => state.goToPrior(normalDraw),
  };
  for (const [id, action] of Object.entries(actions)) {
    byId(id).addEventListener("click", () => {
      if (id.startsWith("to-")) view.posterior = null;
      action();
    });
  }
  createThemeButton(byId("theme"), () => {
    scatter.redraw();
    ask();
  });
}

function showCheck(result) {
  const badge = byId("self-check");
  const error = Number.isNaN(result.pixels) ? "NaN" : result.pixels.toExponential(0);
  badge.dataset.result = result.passed ? "pass" : "fail";
  badge.textContent = result.passed ? "Self-check: PASS" : `Self-check: FAIL, pixels differ by ${error}`;
  badge.title =
    `${result.count} latents and images computed here and by JAX: pixels differ by at most ${error}, ` +
    `latents by at most ${result.latents.toExponential(0)}`;
  if (!result.passed) {
    showProblem("The images that this page computes differ from those of JAX: do not trust what it shows.");
  }
  return result;
}

function showProblem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

start().catch((error) => {
  const badge = byId("self-check");
  [badge.dataset.result, badge.textContent] = ["fail", "Self-check: FAIL"];
  showProblem(`The page could not start: ${error.message}`);
  throw error;
});
