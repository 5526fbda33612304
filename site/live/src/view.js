// What is shown of the desk: controls for what can be set, and what the network makes of it.
import { objectAt, place, sampled } from "./clip.js";
import * as draw from "./draw.js";
import { Inside } from "./inside.js";
import { choices, element, find, Spot, Strip } from "./mixer.js";
import { rms } from "./mix.js";
import { objectsIn, otherHeard, stored, truthOf } from "./seen.js";
import { level, untouched } from "./state.js";
import { inSilence, iou, MARKED, unjudged, verdict } from "./verdict.js";

const names = (one) => one.objects.map(({ name }) => name).join(", ");

/** Only what has changed: a screen reader tells each change. */
function tell(id, text) {
  if (find(id).textContent !== text) find(id).textContent = text;
}

export class View {
  #strips = [];
  #spots = [];
  #seconds = [];
  #clips = [];
  #inside = null;
  #donor = null;
  cards = [];

  constructor(desk) {
    this.desk = desk;
  }

  // --- controls ---

  buildClips() {
    const labels = this.desk.edition.clips.map((one, k) => [`Clip ${k + 1}: ${names(one)}`, ""]);
    this.#clips = choices(find("clips"), "clip", labels, (k) => this.desk.chooseClip(k));
  }

  /** Controls for another clip. */
  build() {
    const { clip, state } = this.desk;
    this.#strips = [...clip.tracks.map((track, k) => this.#track(track, k)), this.#noise(), this.#other()];
    find("strips").replaceChildren(...this.#strips.map((strip) => strip.element));
    clip.objects.forEach((_, k) => {
      const second = [...Array(clip.seconds).keys()].find((t) => place(clip, k, t));
      if (second !== undefined) draw.thumbnail(this.#strips[k].picture, clip, place(clip, k, second), second);
    });
    this.#spots = clip.objects.map(({ name }, k) => new Spot(name, (at) => this.desk.toggle(k, at)));
    find("spots").replaceChildren(...this.#spots.map((spot) => spot.element));
    find("seconds").replaceChildren();
    const labels = Array.from({ length: clip.seconds }, (_, t) => [`second ${t + 1}`, t ? `${t + 1}` : "second 1"]);
    this.#seconds = choices(find("seconds"), "second", labels, (t) => this.desk.chooseSecond(t));
    this.#clips.forEach(({ input }, k) => (input.checked = !clip.own && k === state.clip));
    find("truth-choice").hidden = !clip.objects.length;
    find("share").hidden = Boolean(clip.own); // of files nothing can be said in an address
    find("headline").textContent = this.#headline();
    this.blank();
  }

  /** Another clip or network: nothing that was said of the one before is true of it. */
  blank() {
    find("verdict").className = "verdict";
    tell("verdict-title", "\u00a0");
    for (const id of ["verdict-text", "verdict-control", "agreement"]) tell(id, "");
    find("picture").setAttribute("aria-label", "The picture; its mask is on the way.");
    this.showSeconds();
  }

  #headline() {
    const { clip } = this.desk, first = clip.objects.find((one) => one.sounding[clip.start]);
    return first ? `Silence the ${first.name}, and its mask goes.` : "What does it hear?";
  }

  #track({ name }, k) {
    const { clip, state, change, toggle } = this.desk, pictured = k < clip.objects.length;
    const gain = (value) => {
      state.gains[k] = value;
      state.muted.delete(k);
      change();
    };
    return new Strip(`level-${k}`, name, { mute: () => toggle(k), gain, pictured });
  }

  #noise() {
    const { state, change } = this.desk;
    return new Strip("level-noise", "white noise", { gain: (value) => { state.noise = value; change(); }, pictured: false });
  }

  #other() {
    const { edition, state, change, chooseOther } = this.desk;
    const select = (this.#donor = element("select", { "aria-label": "Which other clip is heard" }));
    edition.clips.forEach((one, k) => {
      const option = element("option", { value: k }, `clip ${k + 1}: ${names(one)}`);
      option.disabled = k === state.clip;
      select.append(option);
    });
    select.addEventListener("change", () => chooseOther(Number(select.value)));
    const gain = (value) => { state.donor = value; change(); };
    return new Strip("level-other", "another clip's sound", { gain, extra: select, pictured: false });
  }

  // --- what sounds ---

  /** still: the head moves in steps. */
  showPlaying(still) {
    const { player, clip } = this.desk;
    find("play").setAttribute("aria-pressed", String(player.on));
    find("head").hidden = !player.on;
    if (!player.on) this.meters();
    const shown = still ? Math.min(clip.seconds - 1, Math.floor(player.position)) : player.position;
    find("head").style.left = `${(100 * shown) / clip.seconds}%`;
  }

  /** How loud each sound is in the mix: around a position in seconds, or over the second that is shown. */
  meters(position = null) {
    const { clip, state, parts, mixed } = this.desk, { rate } = clip, { factor } = mixed();
    const [from, width] = position === null ? [state.second * rate, rate] : [Math.floor(position * rate), rate / 16];
    parts().forEach(([samples, gain], k) => {
      const [a, b] = [Math.max(0, from - (position === null ? 0 : width)), Math.min(samples.length, from + width)];
      this.#strips[k].meter(gain * factor * (b > a ? rms(samples, a, b) : 0));
    });
  }

  // --- what is marked ---

  /** The mask of a second: the last that was computed; before the network has loaded, PyTorch's, which came with the
   * clip. */
  #maskOf(second) {
    const { thinker, state, model, clip } = this.desk;
    const answer = thinker.answers.get(second), standsIn = untouched(state) && !model.about;
    return answer ? { mask: answer.mask, size: answer.size } : { mask: standsIn ? stored(clip, second) : null, size: clip.size };
  }

  show() {
    const { clip, state, player, thinker, model } = this.desk;
    const { second } = state, { mask, size } = this.#maskOf(second), canvas = find("picture");
    const side = Math.min(1024, Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio))) || 448;
    const truth = find("truth").checked && clip.objects.length ? truthOf(clip, state, second) : null;
    draw.stage(canvas, clip, second, mask, size, truth, side);
    const judged = mask && sampled(mask, size, clip.size), objects = objectsIn(clip, state, second, judged);
    this.#seconds.forEach(({ input }, t) => (input.checked = t === second));
    tell("mix-title", `The mix in second ${second + 1}`);
    this.#showStrips(objects, second);
    if (!player.on) this.meters();
    const fresh = thinker.fresh(second);
    if (fresh) this.#showAnswer({ ...fresh, mask: judged }, objects, second);
    find("live").classList.toggle("on", Boolean(model.about));
  }

  #showSecond(t) {
    const { mask, size } = this.#maskOf(t);
    draw.stage(this.#seconds[t].canvas, this.desk.clip, t, mask, size, null, 96);
  }

  showSeconds() {
    this.#seconds.forEach((_, t) => this.#showSecond(t));
  }

  showClip(k, clip) {
    draw.stage(this.#clips[k].canvas, clip, clip.start, null, clip.size, null, 96);
  }

  #showStrips(objects, second) {
    const { clip, state } = this.desk;
    clip.tracks.forEach((_, k) => {
      const object = objects[k], gain = level(state, k), words = [];
      if (object && gain) words.push(object.sounding ? "sounds now" : "silent now");
      if (gain !== 1) words.push(gain ? `turned to ${Math.round(100 * gain)}%` : "muted");
      this.#strips[k].set({ gain: state.gains[k], muted: gain === 0 });
      this.#strips[k].say(words.join(", "), object ? object.marked : null);
      if (!object) return;
      this.#put(k, second);
      this.#spots[k].set(gain === 0, object.audible);
    });
    this.#strips.at(-2).set({ gain: state.noise, muted: false });
    this.#strips.at(-1).set({ gain: state.donor, muted: false });
    this.#donor.value = state.donorClip;
  }

  /** The label of a thing stands below it, or above it where it would cover another. */
  #put(k, second) {
    const { clip } = this.desk, box = place(clip, k, second);
    const covered = box && [-0.08, 0, 0.08].map((dx) => objectAt(clip, second, (box.x0 + box.x1) / 2 + dx, box.y1));
    this.#spots[k].put(box, Boolean(covered?.some((other) => other !== null && other !== k)));
  }

  #showAnswer({ mask, outputs, heard }, objects, second) {
    const { clip, state, thinker } = this.desk, seen = objects.filter(({ marked }) => marked !== null);
    this.#inside.draw(clip, second, heard, outputs);
    const added = { noise: state.noise > 0, other: otherHeard(this.desk, second) }, dark = thinker.dark(second);
    const found = clip.objects.length ? verdict(seen, mask, added) : unjudged(mask);
    find("verdict").className = `verdict ${found.good === null ? "" : found.good ? "good" : "bad"}`;
    tell("verdict-title", found.title);
    tell("verdict-text", found.text);
    tell("verdict-control", dark === undefined ? "" : inSilence(dark));
    const score = seen.length && iou(mask, truthOf(clip, state, second));
    tell("agreement", seen.length ? `overlap with the right answer: ${score.toFixed(2)}` : "");
    const marked = seen.filter((one) => one.marked >= MARKED).map(({ name }) => name);
    find("picture").setAttribute("aria-label", `Second ${second + 1}. Marked: ${marked.join(", ") || "no known thing"}.`);
    this.cards.forEach((card) => card.show(seen, untouched(state)));
  }

  /** The model has answered for a second. */
  showAnswered(second) {
    const { model, thinker, device, state } = this.desk;
    if (this.#inside?.about !== model.about && thinker.answers.has(second)) {
      this.#inside = new Inside(model.about, thinker.answers.get(second).outputs);
    }
    this.#showSecond(second);
    if (second === state.second) this.show();
    find("live").textContent = `live: ${model.inferences} masks computed on this device`;
    find("speed").textContent = device.headline;
    find("speed-text").textContent = device.text;
    find("copy").disabled = !device.isWarm;
  }

  tellModel() {
    const { source, method, parameters, size, precision } = this.desk.model.about;
    const weights = `${(parameters / 1e6).toFixed(2)} million weights in ${precision}`;
    tell("model-said", `Network: ${source} (${method}), ${weights}, ${size.join(" × ")} pixels.`);
    find("back").hidden = this.desk.model.shipped;
    find("copy").disabled = true;
    this.blank();
    // A single file holds the first form alone; another network has no other.
    const single = document.querySelector("html[data-single]") !== null, { models } = this.desk.edition;
    find("weights-choice").hidden = single || models.length < 2 || !this.desk.model.shipped;
  }
}
