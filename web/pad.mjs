// A pad to draw an image for the encoder.

const FINE = 10; // pad pixels per image pixel, in each direction
const BRUSH = 2.1; // brush width in image pixels
const MNIST_SIDE = 20; // side of the box that MNIST's digits are scaled into

// Return {clear, refresh, copy}. Calls `onChange(values)` with every new image, [height, width, channels] in [0, 1].
export function createPad(canvas, image, { isCentered, isBinary, onChange }) {
  const { width, height, channels } = image;
  [canvas.width, canvas.height] = [width * FINE, height * FINE];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scratch = document.createElement("canvas");
  [scratch.width, scratch.height] = [canvas.width, canvas.height];
  const scratchContext = scratch.getContext("2d", { willReadFrequently: true });
  const cursor = [canvas.width / 2, canvas.height / 2];
  let [last, isPen] = [null, false];

  Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: BRUSH * FINE });
  blacken();

  function blacken() {
    [context.fillStyle, context.strokeStyle] = ["#000", "#fff"];
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  function lineTo(place) {
    context.beginPath();
    context.moveTo(...(last || place));
    context.lineTo(place[0] + 0.01, place[1]);
    context.stroke();
    last = place;
    onChange(values());
  }

  // Return the drawing at the resolution of the image.
  function values() {
    const shades = isCentered() ? centered() : shadesOf(context);
    return asImage(shades);
  }

  function asImage(shades) {
    const found = new Float32Array(width * height * channels);
    for (let i = 0; i < found.length; i++) {
      const shade = shades[Math.floor(i / channels)];
      found[i] = isBinary ? Number(shade > 0.5) : shade;
    }
    return found;
  }

  // Return the means of blocks of FINE x FINE pixels.
  function shadesOf(from) {
    const { data } = from.getImageData(0, 0, canvas.width, canvas.height);
    const sums = new Float32Array(width * height);
    for (let y = 0, at = 0; y < canvas.height; y++) {
      const row = Math.floor(y / FINE) * width;
      for (let x = 0; x < canvas.width; x++, at += 4) sums[row + Math.floor(x / FINE)] += data[at];
    }
    return sums.map((sum) => sum / (255 * FINE * FINE));
  }

  // Return the drawing preprocessed as MNIST: scaled into a box of 20 x 20, with the center of mass in the middle.
  function centered() {
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const box = { left: Infinity, right: -1, top: Infinity, bottom: -1, mass: 0, x: 0, y: 0 };
    for (let y = 0, at = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++, at += 4) {
        const shade = data[at];
        if (!shade) continue;
        [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x + 1)];
        [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y + 1)];
        [box.mass, box.x, box.y] = [box.mass + shade, box.x + shade * (x + 0.5), box.y + shade * (y + 0.5)];
      }
    }
    if (!box.mass) return shadesOf(context);
    const scale = (MNIST_SIDE * FINE) / Math.max(box.right - box.left, box.bottom - box.top);
    const left = canvas.width / 2 - scale * (box.x / box.mass - box.left);
    const top = canvas.height / 2 - scale * (box.y / box.mass - box.top);
    const [boxWidth, boxHeight] = [box.right - box.left, box.bottom - box.top];
    scratchContext.fillStyle = "#000";
    scratchContext.fillRect(0, 0, scratch.width, scratch.height);
    const to = [left, top, scale * boxWidth, scale * boxHeight];
    scratchContext.drawImage(canvas, box.left, box.top, boxWidth, boxHeight, ...to);
    return shadesOf(scratchContext);
  }

  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    isPen = true;
    last = null;
    lineTo(placeOf(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (isPen) lineTo(placeOf(event));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (isPen = false));

  let isSpaceHeld = false;
  canvas.addEventListener("keyup", (event) => {
    if (event.key === " ") isSpaceHeld = false;
  });
  canvas.addEventListener("blur", () => (isSpaceHeld = false));
  canvas.addEventListener("keydown", (event) => {
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in directions) {
      const sides = [canvas.width, canvas.height];
      const before = [...cursor];
      cursor.forEach((value, i) => {
        cursor[i] = Math.min(Math.max(value + FINE * directions[event.key][i], 0), sides[i]);
      });
      if (isSpaceHeld) {
        last = before;
        lineTo([...cursor]);
      }
    } else if (event.key === " ") {
      if (!isSpaceHeld) {
        last = null;
        lineTo([...cursor]);
      }
      isSpaceHeld = true;
    } else if (event.key === "Delete" || event.key === "Backspace") clear();
    else return;
    event.preventDefault();
    canvas.dispatchEvent(new CustomEvent("cursor", { detail: [cursor[0] / canvas.width, cursor[1] / canvas.height] }));
  });

  function clear() {
    blacken();
    onChange(values());
  }

  return {
    clear,
    refresh: () => onChange(values()),
    // Show the image that `draw(context, width, height)` draws; the encoder sees it without centering.
    copy(draw) {
      context.imageSmoothingEnabled = false;
      draw(context, canvas.width, canvas.height);
      onChange(asImage(shadesOf(context)));
    },
  };
}
