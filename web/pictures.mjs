// Images on canvases.

// Colour map of standard deviations, from low to high: black, violet, orange, white.
const RAMP = [
  [0, 0, 0],
  [94, 42, 120],
  [240, 130, 60],
  [255, 248, 225],
];

export function grey(value) {
  const shade = 255 * value;
  return [shade, shade, shade];
}

export function heat(value) {
  const place = value * (RAMP.length - 1);
  const below = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[below].map((shade, i) => shade + (place - below) * (RAMP[below + 1][i] - shade));
}

// Draw values [height, width, channels], divided by `largest`, at one canvas pixel per pixel. Three channels are RGB.
export function drawValues(canvas, values, { height, width, channels }, ramp = grey, largest = 1) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const share = (value) => Math.min(Math.max(value / largest, 0), 1);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const at = pixel * channels;
    if (channels === 3 && ramp === grey) {
      for (let c = 0; c < 3; c++) picture.data[4 * pixel + c] = 255 * share(values[at + c]);
    } else {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += values[at + c];
      picture.data.set(ramp(share(sum / channels)), 4 * pixel);
    }
    picture.data[4 * pixel + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

// Load the sprite sheet; return functions that draw its thumbnails.
export async function loadSprite({ url, columns, width, height }) {
  const sheet = new Image();
  sheet.src = url;
  await sheet.decode();
  function draw(context, index, x, y, toWidth, toHeight) {
    const from = [(index % columns) * width, Math.floor(index / columns) * height];
    context.drawImage(sheet, ...from, width, height, x, y, toWidth, toHeight);
  }
  return {
    draw,
    fill(canvas, index) {
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      draw(canvas.getContext("2d"), index, 0, 0, width, height);
    },
  };
}

const COLORS = [
  "#4e79a7", "#f28e2b", "#d9484b", "#4fa8a1", "#59a14f", "#c19a1b", "#a86a9c", "#f4829a", "#94694f", "#7d8590",
];

export function colorOf(label) {
  return label < COLORS.length ? COLORS[label] : `hsl(${(137.5 * label) % 360} 55% 52%)`;
}

// Return the value of a CSS variable.
export function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
