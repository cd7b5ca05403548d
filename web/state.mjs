// The state of the page: the latents of every level, the class to decode, and the level in view.
//
// Moving a level moves the levels below it: each keeps its distance from the mean of p(z_l | z_{l+1}), in units of its
// scale.

export function createState(model) {
  const { names } = model;
  const listeners = [];
  const state = { z: {}, offsets: {}, label: 0, level: names[names.length - 1] };
  for (const name of names) state.offsets[name] = new Float32Array(model.levels[names.indexOf(name)].size);

  function changed(what) {
    for (const listener of listeners) listener(what);
  }

  // Recompute the levels from `from` down out of the prior and their offsets.
  function descend(from) {
    for (let level = from; level >= 0; level--) {
      const name = names[level];
      const { mean, scale } = model.prior(level, state.z, state.label);
      state.z[name] = mean.map((value, i) => value + scale[i] * state.offsets[name][i]);
    }
  }

  function measure(level) {
    const { mean, scale } = model.prior(level, state.z, state.label);
    const z = state.z[names[level]];
    state.offsets[names[level]] = z.map((value, i) => (value - mean[i]) / scale[i]);
  }

  descend(names.length - 1);
  return {
    get z() {
      return state.z;
    },
    get label() {
      return state.label;
    },
    get level() {
      return state.level;
    },
    get levelIndex() {
      return names.indexOf(state.level);
    },
    onChange: (listener) => listeners.push(listener),
    // Move one level, and the levels below it with it.
    move(name, values) {
      state.z[name] = Float32Array.from(values);
      measure(names.indexOf(name));
      descend(names.indexOf(name) - 1);
      changed("z");
    },
    // Go to latents of all levels.
    go(z, label = state.label) {
      for (const name of names) state.z[name] = Float32Array.from(z[name]);
      state.label = label;
      for (let level = names.length - 1; level >= 0; level--) measure(level);
      changed("z");
    },
    // Go to the prior; `offset` returns the distance of each latent from the prior mean, in scales.
    goToPrior(offset) {
      for (const name of names) state.offsets[name] = state.offsets[name].map(offset);
      descend(names.length - 1);
      changed("z");
    },
    setLabel(label) {
      state.label = label;
      descend(names.length - 1);
      changed("z");
    },
    setLevel(name) {
      state.level = name;
      changed("level");
    },
  };
}

// Return a draw of N(0, 1).
export function normalDraw() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
