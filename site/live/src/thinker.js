// Which frame the model is asked next: of what is set now, first the second that is shown, then the same in silence,
// then the other seconds. What was set before is forgotten, so that nothing queues up.
import { normalised } from "./clip.js";
import { logMel } from "./frontend.js";
import { margin } from "./model.js";
import { resampled, resizedFrames } from "./own.js";
import { coverage } from "./verdict.js";

export class Thinker {
  #model;
  #told;
  #setting = null;
  #busy = false;
  #frames = null; // as the model wants them
  #dark = new Map(); // by second: the share of the frame that is marked in silence

  /** told: called after each frame with its second and milliseconds; failed: with an error. */
  constructor(model, told, failed) {
    this.#model = model;
    this.#told = told;
    this.failed = failed;
    this.answers = new Map(); // by second: {key, outputs, mask, heard}
  }

  /** Another clip, or another model: nothing of before holds. */
  forget() {
    this.answers.clear();
    this.#dark.clear();
    this.#frames = null;
  }

  /** key: of what is set; clip; waveform at the clip's rate; second: the one that is shown. */
  want(setting) {
    this.#setting = setting;
    if (!this.#busy && this.#model.about) this.#work();
  }

  fresh(second) {
    const answer = this.answers.get(second);
    return answer && answer.key === this.#setting?.key ? answer : null;
  }

  dark(second) {
    return this.#dark.get(second);
  }

  #next() {
    const { clip, second } = this.#setting;
    if (!this.fresh(second)) return { second, silent: false };
    if (!this.#dark.has(second)) return { second, silent: true };
    for (let t = 0; t < clip.seconds; t++) if (!this.fresh(t)) return { second: t, silent: false };
    return null;
  }

  async #work() {
    this.#busy = true;
    try {
      for (let next; (next = this.#next()); ) await this.#look(next, this.#setting);
    } catch (error) {
      this.failed(error);
    }
    this.#busy = false;
  }

  async #look({ second, silent }, setting) {
    const { clip, key } = setting, { about } = this.#model, { rule, size } = about;
    if (this.#frames?.clip !== clip || this.#frames.about !== about) {
      const same = size[0] === clip.size && size[1] === clip.size;
      this.#frames = { clip, about, pixels: same ? clip.frames : await resizedFrames(clip, size[0]) };
    }
    setting.resampled ??= await resampled(setting.waveform, clip.rate, rule.rate);
    const heard = logMel(silent ? new Float32Array(1) : setting.resampled, second, rule);
    const frame = normalised(this.#frames.pixels, second, size[0]);
    if (about !== this.#model.about) return;
    const answer = await this.#model.run(frame, heard).catch((error) => {
      if (about === this.#model.about) throw error; // another network was asked what was meant for this one
    });
    if (clip !== this.#setting.clip || about !== this.#model.about) return;
    const { ms, outputs } = answer;
    const mask = margin(outputs.logits);
    if (silent) this.#dark.set(second, coverage(mask));
    else this.answers.set(second, { key, outputs, mask, heard, frame, size: size[0] });
    this.#told(second, ms);
  }
}
