// The mixer: a strip for each sound, with a picture of the thing, a mute, a fader, how loud it is, and how much of it
// is marked.

const LOUD = 50; // dB of a meter's length

export const find = (id) => document.getElementById(id);

export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const SPEAKER = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9v6h4l5 4V5L8 9z"/>
<path class="waves" d="M16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12"/><path class="cross" d="M16 9l6 6m0-6l-6 6"/></svg>`;

/** A strip: `mute` is null where a sound has only a fader. */
export class Strip {
  constructor(id, name, { mute = null, gain, extra = null, pictured = true }) {
    this.picture = element("canvas", { width: 88, height: 88, "aria-hidden": "true" });
    this.note = element("span", { class: "note" });
    this.mark = element("span", { class: "percent" });
    this.fader = element("input", { type: "range", min: 0, max: 2, step: 0.05, id, "aria-label": `Level of ${name}` });
    this.loud = element("i", { class: "heard" });
    this.marked = element("i", { class: "marked" });
    const bars = element("div", { class: "bars", "aria-hidden": "true" }, element("div", {}, this.loud));
    if (pictured) bars.append(element("div", {}, this.marked));
    const title = element("div", { class: "title" }, element("span", { class: "name" }, name), this.note, this.mark);
    this.element = element("div", { class: pictured ? "strip" : "strip bare", role: "group", "aria-label": name },
                           ...(pictured ? [this.picture] : []), title, this.fader, bars);
    this.fader.addEventListener("input", () => gain(Number(this.fader.value)));
    if (mute) {
      this.mute = element("button", { type: "button", class: "mute", "aria-label": `Mute ${name}` });
      this.mute.innerHTML = SPEAKER;
      this.mute.addEventListener("click", mute);
      this.element.append(this.mute);
    }
    if (extra) this.element.append(extra);
  }

  set({ gain, muted }) {
    if (Number(this.fader.value) !== gain) this.fader.value = gain;
    this.fader.setAttribute("aria-valuetext", muted ? "muted" : `${Math.round(100 * gain)}%`);
    this.mute?.setAttribute("aria-pressed", String(muted));
    this.element.classList.toggle("off", muted || gain === 0);
  }

  /** amplitude: RMS, full scale 1. */
  meter(amplitude) {
    const decibels = 20 * Math.log10(Math.max(amplitude, 1e-6));
    this.loud.style.width = `${100 * Math.min(1, Math.max(0, 1 + decibels / LOUD))}%`;
  }

  /** share: of its pixels that are marked; null: it is not seen. */
  say(note, share) {
    this.note.textContent = note;
    this.mark.replaceChildren(...(share === null ? [] : [`${Math.round(100 * share)}%`, element("span", {}, " marked")]));
    this.marked.style.width = `${100 * (share ?? 0)}%`;
  }
}

/** A button around a thing in the picture. toggle: called with the place that was clicked, [x, y] from 0 to 1, since the
 * boxes of two things may overlap; null for a key. */
export class Spot {
  constructor(name, toggle) {
    this.label = element("span", {}, name);
    this.element = element("button", { type: "button", class: "spot", "aria-label": `Mute ${name}, in the picture` });
    this.element.append(this.label);
    this.element.addEventListener("click", ({ detail, clientX, clientY }) => {
      const { left, top, width, height } = this.element.parentElement.parentElement.getBoundingClientRect();
      toggle(detail ? [(clientX - left) / width, (clientY - top) / height] : null); // a key has no place
    });
  }

  put(box, above) {
    this.element.hidden = box === null;
    if (!box) return;
    const { style } = this.element, width = Math.max(box.x1 - box.x0, 0.11), height = Math.max(box.y1 - box.y0, 0.11);
    style.left = `${100 * Math.min(1 - width, Math.max(0, (box.x0 + box.x1 - width) / 2))}%`;
    style.top = `${100 * Math.min(1 - height, Math.max(0, (box.y0 + box.y1 - height) / 2))}%`;
    style.width = `${100 * width}%`;
    style.height = `${100 * height}%`;
    this.element.classList.toggle("above", above);
    this.element.classList.toggle("low", box.y1 > 0.86);
  }

  set(muted, audible) {
    this.element.setAttribute("aria-pressed", String(muted));
    this.element.classList.toggle("audible", audible);
  }
}

/** Radio buttons in a row, each with a canvas. labels: for ears, and below the canvas. chosen: called with the number
 * of the one that is picked. */
export function choices(parent, name, labels, chosen) {
  return labels.map(([label, below], k) => {
    const input = element("input", { type: "radio", name, value: k, "aria-label": label });
    const canvas = element("canvas", { width: 96, height: 96, "aria-hidden": "true" });
    input.addEventListener("change", () => chosen(k));
    parent.append(element("label", {}, input, canvas, element("span", { "aria-hidden": "true" }, below)));
    return { input, canvas };
  });
}
