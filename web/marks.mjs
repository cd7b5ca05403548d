// Marks on the plane: the point, the prior, a posterior, a path, and the image under the mouse.

import { ellipseOf, project } from "./geometry.mjs";
import { themeColor } from "./pictures.mjs";

// Draw the marks, some of which may be missing, on a canvas above that of the dots.
export function drawMarks(canvas, scatter, { prior, posterior, path, point, hovered }) {
  const context = canvas.getContext("2d");
  const accent = themeColor("--accent");
  context.clearRect(0, 0, scatter.width, scatter.height);
  [context.strokeStyle, context.lineWidth] = [themeColor("--quiet"), 1];
  if (prior) drawEllipses(context, scatter, prior, [1, 2, 3], [4, 4]);
  [context.strokeStyle, context.lineWidth] = [accent, 2];
  if (posterior) drawEllipses(context, scatter, posterior, [2], []);
  if (path) drawPath(context, scatter, path);
  if (hovered !== null) {
    context.strokeStyle = themeColor("--text");
    circle(context, ...scatter.pixelOf(hovered), 7);
    context.stroke();
  }
  drawPoint(context, scatter.view.toPixel(project(scatter.plane, point)), accent);
}

function drawPoint(context, [x, y], accent) {
  [context.fillStyle, context.strokeStyle, context.lineWidth] = [accent, themeColor("--card"), 3];
  circle(context, x, y, 9);
  context.fill();
  context.stroke();
  [context.strokeStyle, context.lineWidth] = [accent, 2];
  circle(context, x, y, 14);
  context.stroke();
}

// Draw ellipses at multiples of a Gaussian's standard deviation.
function drawEllipses(context, { plane, view }, gaussian, multiples, dash) {
  const { center, radii, angle } = ellipseOf(plane, gaussian);
  const [x, y] = view.toPixel(center);
  context.setLineDash(dash);
  for (const multiple of multiples) {
    const [long, short] = radii.map((radius) => Math.max(radius * multiple * view.scale, 0.5));
    context.beginPath();
    context.ellipse(x, y, long, short, -angle, 0, 2 * Math.PI);
    context.stroke();
  }
  context.setLineDash([]);
}

// Draw the line from A to B.
function drawPath(context, { plane, view }, path) {
  const ends = path.map((z) => view.toPixel(project(plane, z)));
  context.globalAlpha = 0.7;
  context.beginPath();
  context.moveTo(...ends[0]);
  context.lineTo(...ends[1]);
  context.stroke();
  context.globalAlpha = 1;
  context.font = "600 13px system-ui, sans-serif";
  [context.textAlign, context.textBaseline] = ["center", "middle"];
  ends.forEach(([x, y], i) => {
    context.fillStyle = themeColor("--accent");
    circle(context, x, y, 9);
    context.fill();
    context.fillStyle = themeColor("--on-accent");
    context.fillText("AB"[i], x, y + 0.5);
  });
}

export function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}
