// Scatter plot of the test images in a plane.

import { project, windowAround, windowOf, zoomed } from "./geometry.mjs";
import { circle } from "./marks.mjs";
import { colorOf, themeColor } from "./pictures.mjs";

const DOT = 5; // diameter in pixels
const THUMBNAIL = 32; // pixels along its longer side
const MOST_THUMBNAILS = 160; // dots become thumbnails when at most this many are in view
const LEAST_SCALE = 60; // and the scale is above this many pixels per unit

export function createScatter({ stage, dots, marks }, points, sprite) {
  const scatter = { width: 0, height: 0, view: null, plane: null, level: null, hidden: new Set() };
  let coordinates = new Float32Array(0);
  let [isStale, isFitted] = [true, false];

  function resize() {
    const { clientWidth: width, clientHeight: height } = stage;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [dots, marks]) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    [scatter.width, scatter.height] = [width, height];
    isStale = true;
    if (isFitted) fit();
    else if (scatter.view) scatter.view = windowOf(width, height, scatter.view.center, scatter.view.scale);
  }

  function setPlane(level, plane) {
    const { means, size } = points.levels[level];
    [scatter.level, scatter.plane] = [level, plane];
    coordinates = new Float32Array(2 * points.count);
    for (let index = 0; index < points.count; index++) {
      const [x, y] = project(plane, means, index * size);
      // With a single dimension, the second coordinate only keeps the dots apart.
      const spread = 2 * ((index * 0.61803398875) % 1) - 1;
      coordinates.set([x, plane.up ? y : spread], 2 * index);
    }
    fit();
  }

  function fit() {
    const bounds = [-3.1, 3.1, -3.1, 3.1];
    for (let axis = 0; axis < 2; axis++) {
      const values = coordinates.filter((_, i) => i % 2 === axis).sort();
      const at = (share) => values[Math.round(share * (values.length - 1))];
      bounds[2 * axis] = Math.min(bounds[2 * axis], at(0.003));
      bounds[2 * axis + 1] = Math.max(bounds[2 * axis + 1], at(0.997));
    }
    scatter.view = windowAround(scatter.width, scatter.height, bounds);
    [isStale, isFitted] = [true, true];
  }

  function isShown(index) {
    return !points.labels || !scatter.hidden.has(points.labels[index]);
  }

  function pixelOf(index) {
    return scatter.view.toPixel([coordinates[2 * index], coordinates[2 * index + 1]]);
  }

  function inView() {
    const found = [];
    for (let index = 0; index < points.count; index++) {
      if (!isShown(index)) continue;
      const [x, y] = pixelOf(index);
      if (x > -20 && y > -20 && x < scatter.width + 20 && y < scatter.height + 20) found.push([index, x, y]);
    }
    return found;
  }

  // Draw the dots if they have changed.
  function drawDots() {
    if (!isStale) return;
    isStale = false;
    const context = dots.getContext("2d");
    context.clearRect(0, 0, scatter.width, scatter.height);
    const found = inView();
    const isNear = found.length <= MOST_THUMBNAILS && scatter.view.scale > LEAST_SCALE;
    if (isNear) drawThumbnails(context, found);
    else drawByClass(context, found);
    drawNames(context);
  }

  function drawByClass(context, found) {
    const byColor = new Map();
    for (const each of found) {
      const color = points.labels ? colorOf(points.labels[each[0]]) : themeColor("--accent");
      if (!byColor.has(color)) byColor.set(color, []);
      byColor.get(color).push(each);
    }
    context.globalAlpha = found.length > 2000 ? 0.6 : 0.8;
    for (const [color, those] of byColor) {
      const dot = dotOf(color);
      for (const [, x, y] of those) context.drawImage(dot, x - DOT / 2, y - DOT / 2, DOT, DOT);
    }
    context.globalAlpha = 1;
  }

  function drawThumbnails(context, found) {
    context.imageSmoothingEnabled = false;
    context.lineWidth = 2;
    const { width, height } = points.sprite;
    const [wide, high] = [width, height].map((side) => (THUMBNAIL * side) / Math.max(width, height));
    for (const [index, x, y] of found) {
      const box = [x - wide / 2, y - high / 2, wide, high];
      sprite.draw(context, index, ...box);
      context.strokeStyle = points.labels ? colorOf(points.labels[index]) : themeColor("--accent");
      context.strokeRect(...box);
    }
  }

  // Draw the name of each class at the mean of its images, because colours alone are hard to tell apart.
  function drawNames(context) {
    if (!points.labels || !scatter.nameOf) return;
    const sums = new Map();
    for (let index = 0; index < points.count; index++) {
      const sum = sums.get(points.labels[index]) || [0, 0, 0];
      sums.set(points.labels[index], [sum[0] + coordinates[2 * index], sum[1] + coordinates[2 * index + 1], sum[2] + 1]);
    }
    context.font = "600 15px system-ui, sans-serif";
    [context.textAlign, context.textBaseline] = ["center", "middle"];
    [context.lineWidth, context.lineJoin] = [4, "round"];
    [context.strokeStyle, context.fillStyle] = [themeColor("--plane"), themeColor("--text")];
    for (const [label, [x, y, count]] of sums) {
      if (scatter.hidden.has(label)) continue;
      const place = scatter.view.toPixel([x / count, y / count]);
      context.strokeText(scatter.nameOf(label), ...place);
      context.fillText(scatter.nameOf(label), ...place);
    }
  }

  // Return the image whose dot is nearest to a pixel, within a distance; null if there is none.
  function imageAt([px, py], within) {
    let [best, nearest] = [null, within * within];
    for (let index = 0; index < points.count; index++) {
      if (!isShown(index)) continue;
      const [x, y] = pixelOf(index);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance <= nearest) [best, nearest] = [index, distance];
    }
    return best;
  }

  return Object.assign(scatter, {
    resize,
    setPlane,
    drawDots,
    imageAt,
    fit,
    pixelOf,
    redraw: () => (isStale = true),
    pan(dx, dy) {
      const [x, y] = scatter.view.toPlane([scatter.width / 2 - dx, scatter.height / 2 - dy]);
      scatter.view = windowOf(scatter.width, scatter.height, [x, y], scatter.view.scale);
      [isStale, isFitted] = [true, false];
    },
    zoom(factor, at = [scatter.width / 2, scatter.height / 2]) {
      scatter.view = zoomed(scatter.width, scatter.height, scatter.view, factor, at);
      [isStale, isFitted] = [true, false];
    },
  });
}

const drawnDots = new Map();

// Return a canvas with a dot of a colour, drawn once and cached.
function dotOf(color) {
  if (!drawnDots.has(color)) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 4 * DOT;
    const context = canvas.getContext("2d");
    context.fillStyle = color;
    circle(context, 2 * DOT, 2 * DOT, 2 * DOT);
    context.fill();
    drawnDots.set(color, canvas);
  }
  return drawnDots.get(color);
}
