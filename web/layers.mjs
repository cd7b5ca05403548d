// The layers of networks, on flat Float32Arrays. An image is [height, width, channels] in row-major order.
// Inner loops run along contiguous memory and skip zero inputs (black pixels and zeros after a relu).

import { decodeArray } from "./arrays.mjs";

// Return the function of one Float32Array that a list of layers describes. Each call overwrites the result of the last.
export function network(layers) {
  const steps = layers.map((layer) => BUILDERS[layer.kind](layer));
  return (input) => steps.reduce((values, step) => step(values), input);
}

const BUILDERS = {
  dense: (layer) => dense(decodeArray(layer.kernel), decodeArray(layer.bias)),
  pointwise: (layer) => pointwise(decodeArray(layer.kernel), decodeArray(layer.bias)),
  convolution: (layer) => convolution(layer, decodeArray(layer.kernel), decodeArray(layer.bias)),
  transposed: (layer) => transposed(layer, decodeArray(layer.kernel), decodeArray(layer.bias)),
  residual: (layer) => residual(network(layer.layers)),
  image: (layer) => image(layer),
  relu: () => elementwise((value) => (value > 0 ? value : 0)),
  tanh: () => elementwise(Math.tanh),
};

function elementwise(activation) {
  let output = new Float32Array(0);
  return (input) => {
    if (output.length !== input.length) output = new Float32Array(input.length);
    for (let i = 0; i < input.length; i++) output[i] = activation(input[i]);
    return output;
  };
}

// The affine map W' x + b, with a kernel [inputs, outputs].
function dense(kernel, bias) {
  const outputs = bias.length;
  const output = new Float32Array(outputs);
  return (input) => {
    output.set(bias);
    for (let i = 0; i < input.length; i++) accumulate(output, 0, kernel, i * outputs, outputs, input[i]);
    return output;
  };
}

// The same affine map at every pixel.
function pointwise(kernel, bias) {
  const outputs = bias.length;
  const inputs = kernel.length / outputs;
  let output = new Float32Array(0);
  return (input) => {
    const pixels = input.length / inputs;
    if (output.length !== pixels * outputs) output = new Float32Array(pixels * outputs);
    for (let pixel = 0; pixel < pixels; pixel++) {
      output.set(bias, pixel * outputs);
      for (let c = 0; c < inputs; c++) {
        accumulate(output, pixel * outputs, kernel, c * outputs, outputs, input[pixel * inputs + c]);
      }
    }
    return output;
  };
}

// Add value * kernel[from : from + count] to output[at : at + count].
function accumulate(output, at, kernel, from, count, value) {
  if (value === 0) return;
  for (let f = 0; f < count; f++) output[at + f] += value * kernel[from + f];
}

// A convolution with a kernel [size, size, channels, features] and TensorFlow's "SAME" zero padding.
function convolution({ height, width, stride, kernel: { shape } }, kernel, bias) {
  const [size, , channels, features] = shape;
  const rows = Math.ceil(height / stride);
  const columns = Math.ceil(width / stride);
  const top = Math.floor(Math.max((rows - 1) * stride + size - height, 0) / 2);
  const left = Math.floor(Math.max((columns - 1) * stride + size - width, 0) / 2);
  const output = new Float32Array(rows * columns * features);
  return (input) => {
    for (let row = 0, at = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, at += features) {
        output.set(bias, at);
        for (let i = 0; i < size; i++) {
          const y = row * stride + i - top;
          if (y < 0 || y >= height) continue;
          for (let j = 0; j < size; j++) {
            const x = column * stride + j - left;
            if (x < 0 || x >= width) continue;
            const pixel = (y * width + x) * channels;
            const window = (i * size + j) * channels * features;
            for (let c = 0; c < channels; c++) {
              accumulate(output, at, kernel, window + c * features, features, input[pixel + c]);
            }
          }
        }
      }
    }
    return output;
  };
}

// A transposed convolution with a kernel of size 4 and stride 2: input pixel p adds to output pixels 2 p + 2 - k.
function transposed({ height, width, stride, kernel: { shape } }, kernel, bias) {
  const [size, , channels, features] = shape;
  const rows = height * stride;
  const columns = width * stride;
  const output = new Float32Array(rows * columns * features);
  return (input) => {
    for (let at = 0; at < output.length; at += features) output.set(bias, at);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const pixel = (y * width + x) * channels;
        for (let i = 0; i < size; i++) {
          const row = y * stride + 2 - i;
          if (row < 0 || row >= rows) continue;
          for (let j = 0; j < size; j++) {
            const column = x * stride + 2 - j;
            if (column < 0 || column >= columns) continue;
            const at = (row * columns + column) * features;
            const window = (i * size + j) * channels * features;
            for (let c = 0; c < channels; c++) {
              accumulate(output, at, kernel, window + c * features, features, input[pixel + c]);
            }
          }
        }
      }
    }
    return output;
  };
}

// x + f(x).
function residual(inner) {
  let output = new Float32Array(0);
  return (input) => {
    const change = inner(input);
    if (output.length !== input.length) output = new Float32Array(input.length);
    for (let i = 0; i < input.length; i++) output[i] = input[i] + change[i];
    return output;
  };
}

// Crop an image whose channels hold all outputs of a likelihood, and reorder it to [outputs, height, width, channels].
function image({ width: wide, num_outputs: outputs, shape: [height, width, channels] }) {
  const size = height * width * channels;
  const output = new Float32Array(outputs * size);
  return (input) => {
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++, at++) {
          const from = (y * wide + x) * outputs * channels + c;
          for (let k = 0; k < outputs; k++) output[k * size + at] = input[from + k * channels];
        }
      }
    }
    return output;
  };
}
