// The model as the page talks to it: it lives in a worker, and counts what it was really asked.
import { asset } from "./assets.js";
import { read } from "./metadata.js";

export class Model {
  #worker = null;
  #waiting = new Map();
  #next = 0;
  #runtime = null;
  inferences = 0;
  about = null;
  shipped = false;

  #ask(ask, given = {}, transfer = []) {
    const id = ++this.#next;
    this.#worker.postMessage({ id, ask, ...given }, transfer);
    return new Promise((done, failed) => this.#waiting.set(id, { done, failed }));
  }

  /** Fetches what runs models, while the page fetches one. The worker is made of text: so it has the page's policy, and
   * may fetch nothing but what the page may. */
  prepare() {
    this.#runtime ??= Promise.all([asset("ort.wasm"), this.#start()]).then(([wasm]) => wasm);
    return this.#runtime;
  }

  async #start() {
    const code = new Blob([await asset("worker.js")], { type: "text/javascript" });
    this.#worker = new Worker(URL.createObjectURL(code));
    this.#worker.onmessage = ({ data: { id, answer, error } }) => {
      const { done, failed } = this.#waiting.get(id);
      this.#waiting.delete(id);
      error === undefined ? done(answer) : failed(new Error(error));
    };
  }

  /** Takes another model's place only once it runs. bytes: of an exported file. shipped: it is the page's own. */
  async load(bytes, shipped = false) {
    const about = read(bytes), wasm = await this.prepare(), { size, rule: { shape } } = about;
    await this.#ask("load", { wasm, model: bytes, size, shape });
    Object.assign(this, { about, shipped });
    return true;
  }

  /** frame (3, H, W), logMel (F * M) -> outputs by name, and milliseconds. */
  async run(frame, logMel) {
    this.inferences += 1;
    return this.#ask("run", { frame, logMel, size: this.about.size, shape: this.about.rule.shape });
  }

  /** The share of each part of the model in the time of its operators. */
  profile(frame, logMel, times = 30) {
    return this.#ask("profile", { frame, logMel, times, size: this.about.size, shape: this.about.rule.shape });
  }
}

/** Logits (1, 1, classes, H, W) -> (H * W): above 0 where something is marked. */
export function margin({ data, dims }) {
  const classes = dims[2], area = dims[3] * dims[4];
  if (classes === 1) return data;
  const result = new Float32Array(area);
  for (let p = 0; p < area; p++) {
    let best = -Infinity;
    for (let c = 1; c < classes; c++) best = Math.max(best, data[c * area + p]);
    result[p] = best - data[p];
  }
  return result;
}
