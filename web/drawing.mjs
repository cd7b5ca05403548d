// The drawing pad, the image that the encoder sees, and its reconstruction.

import { createPad } from "./pad.mjs";
import { drawValues } from "./pictures.mjs";

// Call `onEncoded(encoded, z)` for every new drawing, with `encoded` = {level: {mean, scale}} and `z` its means.
export function createDrawing({ byId, about, model, sprite, state }, nearestImage, onEncoded) {
  const isMnist = about.data === "mnist";
  const canvas = byId("pad");
  byId("center-field").hidden = !isMnist;
  const pad = createPad(canvas, model.image, {
    isCentered: () => isMnist && byId("pad-center").checked,
    isBinary: about.binarization !== "grey",
    onChange(values) {
      byId("pad-hint").hidden = true;
      const encoded = model.encode(values, state.label);
      const z = Object.fromEntries(model.names.map((name) => [name, encoded[name].mean]));
      drawValues(byId("pad-seen"), values, model.image);
      drawValues(byId("pad-again"), model.decode(z, state.label).mean, model.image);
      onEncoded(encoded, z);
    },
  });
  for (const id of ["pad-seen", "pad-again"]) drawValues(byId(id), new Float32Array(model.size), model.image);
  byId("pad-clear").addEventListener("click", pad.clear);
  byId("pad-center").addEventListener("change", pad.refresh);
  byId("pad-copy").addEventListener("click", () => {
    pad.copy((context, width, height) => sprite.draw(context, nearestImage(), 0, 0, width, height));
  });
  canvas.addEventListener("cursor", ({ detail: [x, y] }) => {
    const { style } = byId("pad-cursor");
    style.left = `${canvas.offsetLeft + x * canvas.offsetWidth}px`;
    style.top = `${canvas.offsetTop + y * canvas.offsetHeight}px`;
  });
}
