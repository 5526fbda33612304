// A challenge's card: what is asked for, what is set now is worth, and the best so far.
import { points } from "./challenges.js";
import { element } from "./mixer.js";

export class Card {
  #best = 0;

  constructor(task) {
    this.task = task;
    this.bar = element("meter", { min: 0, max: 100, value: 0, "aria-label": `Points: ${task.title}` });
    this.note = element("span", { class: "note" }, `now 0 points, met from ${task.pass}`);
    const hint = element("details", {}, element("summary", {}, "Hint"), element("p", {}, task.hint));
    const title = element("h3", {}, task.title), text = element("p", {}, task.text);
    this.element = element("li", {}, title, text, this.bar, this.note, hint);
  }

  show(objects, untouched) {
    const now = points(this.task, objects, untouched);
    this.#best = Math.max(this.#best, now);
    const done = this.#best >= this.task.pass;
    this.bar.value = now;
    this.note.textContent = done ? `met with ${this.#best} points; now ${now}` : `now ${now} points, met from ${this.task.pass}`;
    this.element.classList.toggle("done", done);
  }
}
