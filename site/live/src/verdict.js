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

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

/** Why something is marked that is not heard, as far as the mix tells. */
function why(wrong, { noise, other }) {
  const copies = wrong.filter(({ name }) => other.includes(name));
  if (copies.length) {
    const { name } = copies[0];
    return ` Another clip's ${name} is in the mix: it hears one and sees one, and cannot know whose sound it is.`;
  }
  return noise ? " White noise holds all tones, those of other things among them." : "";
}

/** objects: {name, audible, marked} of those that are seen. added: whether white noise is in the mix, and the names of
 * what sounds of another clip. -> {good: true | false, title, text}. */
export function verdict(objects, mask, added) {
  const audible = objects.filter((one) => one.audible);
  const missed = audible.filter((one) => one.marked < MARKED);
  const wrong = objects.filter((one) => !one.audible && one.marked >= MARKED);
  const right = audible.filter((one) => one.marked >= MARKED);
  if (wrong.length) {
    const also = missed.length ? ` It misses ${the(missed)}.` : "", text = `${the(wrong)} ${is(wrong)} marked and silent.`;
    return { good: false, title: "It is fooled.", text: sentence(text) + why(wrong, added) + also };
  }
  if (missed.length) {
    const but = right.length ? ` It marks ${the(right)}.` : "";
    const drowned = added.noise || added.other.length ? " What was added may drown the sound." : "";
    const text = `${the(missed)} ${is(missed)} heard and not marked.`;
    return { good: false, title: "It misses something.", text: sentence(text) + drowned + but };
  }
  if (!audible.length) {
    const empty = coverage(mask) < 0.005;
    return empty ? { good: true, title: "It listens.", text: "Nothing in view is heard, and nothing is marked." }
      : { good: false, title: "It is fooled.", text: "Nothing in view is heard, and something is marked." };
  }
  const silent = objects.filter((one) => !one.audible);
  const not = silent.length ? `, and not ${the(silent)}, which ${is(silent)} silent` : "";
  return { good: true, title: "It listens.", text: `It marks ${the(right)}${not}.` };
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** For a picture of which nobody knows the truth. */
export function unjudged(mask) {
  return { good: null, title: `${percent(coverage(mask))} is marked.`, text: "Whether rightly, you must say." };
}

/** dark: the mask's share of the frame in silence. */
export function inSilence(dark) {
  return `Cross-check: with no sound at all, ${percent(dark)} of this picture would be marked.`;
}
