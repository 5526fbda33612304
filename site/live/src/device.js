// How fast the model is on this device, and which share of that is the fusion of sound and picture.

const quantile = (values, q) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];
const percent = (share) => `${(100 * share).toFixed(1)}%`;

export class Device {
  #frames = [];
  #shares = null;

  /** Of the last 100 frames. */
  add(ms) {
    this.#frames.push(ms);
    if (this.#frames.length > 100) this.#frames.shift();
  }

  clear() {
    this.#frames = [];
    this.#shares = null;
  }

  set shares(found) {
    this.#shares = found;
  }

  get headline() {
    return this.#frames.length ? `${quantile(this.#frames, 0.5).toFixed(1)} ms a frame` : "";
  }

  get text() {
    const n = this.#frames.length;
    if (!n) return "";
    const spread = `Median of the last ${n} frames; 95% took at most ${quantile(this.#frames, 0.95).toFixed(1)} ms.`;
    if (!this.#shares) return `${spread} One thread, no GPU.`;
    const { fusion = 0, visual = 0, audio = 0, ...rest } = this.#shares;
    const decoder = Object.values(rest).reduce((a, b) => a + b, 0);
    return `${spread} One thread, no GPU. Of the operators' time, audio-visual fusion takes ${percent(fusion)}; `
      + `seeing ${percent(visual)}, hearing ${percent(audio)}, the decoder ${percent(decoder)}.`;
  }

  /** One line to paste elsewhere. */
  report(about) {
    return `${about.method} (${about.source}, ${about.precision} weights, ${about.size.join(" x ")} px): `
      + `${this.headline}. ${this.text} ${navigator.userAgent}`;
  }
}
