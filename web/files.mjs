// Export of the latents as the two files of the TensorFlow Embedding Projector.

// Return one line of tab-separated numbers per image.
export function vectorsAsText(points, level) {
  const { means, size } = points.levels[level];
  const lines = [];
  for (let at = 0; at < means.length; at += size) {
    lines.push(Array.from(means.subarray(at, at + size), (value) => String(Number(value.toPrecision(6)))).join("\t"));
  }
  return `${lines.join("\n")}\n`;
}

// Return a header and one line per image. There are two columns because the projector reads no header in a single one.
export function labelsAsText(points, nameOf) {
  const lines = ["index\tlabel"];
  for (let index = 0; index < points.count; index++) {
    const name = points.labels ? nameOf(points.labels[index]) : "";
    lines.push(`${points.positions[index]}\t${name.replace(/[\t\r\n]+/g, " ")}`);
  }
  return `${lines.join("\n")}\n`;
}

// Download text as a file.
export function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
