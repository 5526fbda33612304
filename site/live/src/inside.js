// What happens inside: the sound as the model hears it, the audio state and its gates on their way, and the maps.
import * as draw from "./draw.js";
import { element, find } from "./mixer.js";

/** Canvases for what this model shows: `about` as metadata.js reads it, names of its outputs. */
export class Inside {
  constructor(about, outputs) {
    this.about = about;
    this.most = {};
    this.maps = Object.keys(outputs).filter((name) => name.startsWith("map_"));
    find("maps").replaceChildren(...this.maps.map((name) => this.#map(name, outputs[name].dims)));
    const shown = about.steps.map((name, k) => this.#step(name, k, `gate_${k}` in outputs));
    find("steps").replaceChildren(...shown);
    for (const [selector, some] of [[".maps-of", this.maps], [".way", about.steps]]) {
      document.querySelector(selector).hidden = !some.length;
    }
  }

  #map(name, [h, w]) {
    const canvas = element("canvas", { role: "img", "aria-label": `Map of ${h} by ${w} places`, "data-of": name });
    return element("figure", {}, canvas, element("figcaption", {}, `${h} × ${w}`));
  }

  #step(name, k, gated) {
    const canvases = [element("canvas", { "data-of": `state_${k}`, class: "state" })];
    if (gated) canvases.push(element("canvas", { "data-of": `gate_${k}`, class: "gate" }));
    const [letter, number] = [name.slice(0, -1), name.slice(-1)];
    return element("div", {}, element("span", {}, letter, element("sub", {}, number)), ...canvases);
  }

  draw(clip, second, heard, outputs) {
    const { rule } = this.about;
    const silence = rule.factor * Math.log(rule.floor + rule.offset);
    draw.spectrogram(find("log-mel"), heard, rule.shape, silence);
    for (const canvas of document.querySelectorAll("#steps canvas, #maps canvas")) {
      const name = canvas.dataset.of, output = outputs[name];
      if (name.startsWith("map_")) draw.map(canvas, clip, second, output);
      else if (name.startsWith("gate_")) draw.barcode(canvas, output.data, 1, false);
      else draw.barcode(canvas, output.data, this.#largest(name, output.data), true);
    }
  }

  /** The most that was seen of a state so far: what its colours are measured by. */
  #largest(name, values) {
    const found = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return (this.most[name] = Math.max(this.most[name] ?? 0, found));
  }
}
