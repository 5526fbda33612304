// A second of a clip, as the verdict and the challenges see it.
import { level } from "./state.js";
import { share } from "./verdict.js";

/** The objects: whether each sounds in the recording and is heard in the mix, and how much of it a mask marks; null where
 * it is not seen, or where there is no mask. */
export function objectsIn(clip, state, second, mask) {
  return clip.objects.map(({ name, sounding }, k) => {
    const gain = level(state, k);
    return { name, sounding: sounding[second], level: gain, audible: sounding[second] && gain > 0,
             marked: mask ? share(clip, k, second, mask) : null };
  });
}

/** The mask that PyTorch gave a second of the clip as it was recorded, above 0 where marked; null for another clip. */
export function stored({ masks, size }, second) {
  if (!masks) return null;
  const area = size ** 2;
  return Float32Array.from(masks.subarray(second * area, (second + 1) * area), (on) => 2 * on - 1);
}

/** 1 for each pixel of something that is heard in a second. */
export function truthOf(clip, state, second) {
  const area = clip.size ** 2, where = clip.where.subarray(second * area, (second + 1) * area);
  const audible = objectsIn(clip, state, second, null).map((one) => one.audible);
  return Float32Array.from(where, (of) => (of && audible[of - 1] ? 1 : 0));
}

/** The names of what sounds of the other clip in a second of the mix. */
export function otherHeard({ edition, state }, second) {
  if (!state.donor) return [];
  return edition.clips[state.donorClip].objects.filter(({ sounding }) => sounding[second]).map(({ name }) => name);
}
