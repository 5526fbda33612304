// Does it listen? Said of the second that is shown, from the masks that were just computed.

export const MARKED = 0.5; // of an object's pixels: from here on it counts as marked

/** The share of object k's pixels that a mask (above 0: marked) covers in a second; null where it is not seen. */
export function share(clip, k, second, mask) {
  const { size, where } = clip, start = second * size * size;
  let seen = 0, marked = 0;
  for (let p = 0; p < size * size; p++) {
    if (where[start + p] !== k + 1) continue;
    seen += 1;
    marked += mask[p] > 0;
  }
  return seen ? marked / seen : null;
}

/** IoU of two masks, 1 where both are empty. */
export function iou(a, b) {
  let both = 0, either = 0;
  for (let p = 0; p < a.length; p++) {
    both += a[p] > 0 && b[p] > 0;
    either += a[p] > 0 || b[p] > 0;
  }
  return either ? both / either : 1;
}

export const coverage = (mask) => mask.reduce((count, value) => count + (value > 0), 0) / mask.length;

const list = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
const the = (objects) => list(objects.map(({ name }) => `the ${name}`));
const is = (objects) => (objects.length > 1 ? "are" : "is");

/** objects: {name, audible, marked} of those that are seen. dark: the mask's share of the frame in silence.
 * -> {good: true | false | null, title, text}. */
export function verdict(objects, mask, dark) {
  const audible = objects.filter((one) => one.audible);
  const missed = audible.filter((one) => one.marked < MARKED);
  const wrong = objects.filter((one) => !one.audible && one.marked >= MARKED);
  const right = audible.filter((one) => one.marked >= MARKED);
  const inSilence = `With no sound at all it would mark ${(100 * dark).toFixed(1)}% of this picture.`;
  if (wrong.length) {
    const also = missed.length ? ` It misses ${the(missed)}.` : "";
    return { good: false, title: "It is fooled.", text: `${the(wrong)} ${is(wrong)} marked and not heard.${also}` };
  }
  if (missed.length) {
    const but = right.length ? ` It marks ${the(right)}.` : "";
    return { good: false, title: "It misses something.", text: `${the(missed)} ${is(missed)} heard and not marked.${but}` };
  }
  if (!audible.length) {
    const empty = coverage(mask) < 0.005;
    return empty ? { good: true, title: "It listens.", text: "No visible thing is heard, and nothing is marked." }
      : { good: false, title: "It is fooled.", text: "No visible thing is heard, and something is marked." };
  }
  const silent = objects.filter((one) => !one.audible);
  const not = silent.length ? `, and not ${the(silent)}, which ${is(silent)} silent` : "";
  return { good: true, title: "It listens.", text: `It marks ${the(right)}${not}. ${inSilence}` };
}

/** For a picture of which nobody knows the truth. */
export function unjudged(mask, dark) {
  const [now, silent] = [coverage(mask), dark].map((part) => `${(100 * part).toFixed(1)}%`);
  return { good: null, title: `${now} is marked.`, text: `With no sound at all it would be ${silent}: the difference is what it hears.` };
}
