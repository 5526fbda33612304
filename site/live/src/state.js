// What is set, and how it stands in the address, so that a link shows what its sender saw. Only what differs from
// the clip as it was recorded is written.

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const number = (text, otherwise) => (Number.isFinite(parseFloat(text)) ? parseFloat(text) : otherwise);

/** A clip as it was recorded: all at level 1, nothing added. */
export function asRecorded(edition, clip) {
  const { start, objects } = edition.clips[clip];
  const donor = (clip + 1) % edition.clips.length;
  return { clip, second: start, gains: [...objects.map(() => 1), 1], muted: new Set(), noise: 0, donor: 0,
           donorClip: donor };
}

/** The level at which track k is heard, 0 to 2. */
export const level = (state, k) => (state.muted.has(k) ? 0 : state.gains[k]);

/** Whether the sound is the clip's own, unchanged. */
export const untouched = (state) =>
  !state.noise && !state.donor && state.gains.every((gain, k) => gain === 1 && !state.muted.has(k));

/** What the model is asked depends on this, and on the second. */
export const sounds = (state) =>
  JSON.stringify([state.clip, state.gains.map((_, k) => level(state, k)), state.noise, state.donor,
                  state.donor ? state.donorClip : 0]);

export function toAddress(state, edition) {
  const plain = asRecorded(edition, state.clip), words = new URLSearchParams();
  if (state.clip) words.set("clip", state.clip + 1);
  if (state.second !== plain.second) words.set("second", state.second + 1);
  if (state.gains.some((gain) => gain !== 1)) words.set("levels", state.gains.join("_"));
  if (state.muted.size) words.set("muted", [...state.muted].sort().map((k) => k + 1).join("_"));
  if (state.noise) words.set("noise", state.noise);
  if (state.donor) words.set("other", `${state.donor}_${state.donorClip + 1}`);
  return words.toString();
}

/** Of an address whatever makes sense; the rest is as recorded. */
export function fromAddress(text, edition) {
  const words = new URLSearchParams(text.replace(/^#/, "")), last = edition.clips.length - 1;
  const state = asRecorded(edition, clamp(Math.round(number(words.get("clip"), 1)) - 1, 0, last));
  const list = (name) => (words.get(name) ?? "").split("_").filter(Boolean).map(Number);
  state.second = clamp(Math.round(number(words.get("second"), state.second + 1)) - 1, 0,
                       edition.clips[state.clip].seconds - 1);
  list("levels").forEach((gain, k) => {
    if (k < state.gains.length && Number.isFinite(gain)) state.gains[k] = clamp(gain, 0, 2);
  });
  list("muted").forEach((k) => { if (Number.isInteger(k) && state.gains[k - 1] !== undefined) state.muted.add(k - 1); });
  state.noise = clamp(number(words.get("noise"), 0), 0, 2);
  const [gain, donor] = list("other");
  state.donor = clamp(number(gain, 0), 0, 2);
  const other = clamp(donor - 1, 0, last);
  if (Number.isInteger(other) && other !== state.clip) state.donorClip = other;
  return state;
}
