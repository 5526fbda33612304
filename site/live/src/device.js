// How fast the model is on this device, and which share of that is the fusion of sound and picture.

const quantile = (values, q) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];
const percent = (share) => `${(100 * share).toFixed(1)}%`;

const WARMING = 3; // frames, which are not counted

export class Device {
  #frames = [];
  #warming = WARMING;
  #shares = null;

  /** Of the last 100 frames. */
  add(ms) {
    if (this.#warming-- > 0) return;
    this.#frames.push(ms);
    if (this.#frames.length > 100) this.#frames.shift();
  }

  clear() {
    this.#frames = [];
    this.#shares = null;
    this.#warming = WARMING;
  }

  set shares(found) {
    this.#shares = found;
  }

  get isWarm() {
    return this.#frames.length > 0;
  }

  get headline() {
    return this.isWarm ? `${quantile(this.#frames, 0.5).toFixed(1)} ms a frame` : "warming up";
  }

  get text() {
    const n = this.#frames.length;
    if (!n) return "The first frames are slower, and not counted.";
    const spread = `The network alone, for a picture with its second of sound: the median of the last ${n}, of which 95% took `
      + `at most ${quantile(this.#frames, 0.95).toFixed(1)} ms. One thread, no GPU.`;
    if (!this.#shares) return spread;
    const { fusion = 0, visual = 0, audio = 0, ...rest } = this.#shares;
    const decoder = Object.values(rest).reduce((a, b) => a + b, 0);
    return `${spread} Of the time of all operators in 30 more runs, audio-visual fusion (steps 2 and 3 above) takes `
      + `${percent(fusion)}; seeing ${percent(visual)}, hearing ${percent(audio)}, the decoder (steps 4 and 5) ${percent(decoder)}.`;
  }

  /** One line to paste elsewhere. */
  report(about) {
    const million = (about.parameters / 1e6).toFixed(2), date = new Date().toISOString().slice(0, 10);
    return `${date}, ${about.method} (${about.source}, ${million} million ${about.precision} weights, ${about.size.join(" x ")} px): `
      + `${this.headline}. ${this.text} ${navigator.userAgent}`;
  }
}
