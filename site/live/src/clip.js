// A clip: its frames as the model sees them, the same scene drawn larger, what is where, PyTorch's masks, and the
// sound of each thing.
import { asset } from "./assets.js";

const MEAN = [0.485, 0.456, 0.406], STD = [0.229, 0.224, 0.225]; // ImageNet's

/** Frames, (seconds, size, size, 3) of 8 bits -> frame `second` as (3, size, size), normalised. */
export function normalised(frames, second, size) {
  const area = size * size, start = second * area * 3, result = new Float32Array(3 * area);
  for (let p = 0; p < area; p++) {
    for (let c = 0; c < 3; c++) result[c * area + p] = (frames[start + 3 * p + c] / 255 - MEAN[c]) / STD[c];
  }
  return result;
}

const sound = (pcm) => Float32Array.from(pcm, (sample) => sample / 32767);

/** Clip `number` of the edition, as clips.py wrote it. */
export async function loadClip(number, edition) {
  const { size, rate, view, clips } = edition, about = clips[number], { seconds, objects } = about;
  const [bytes, picture] = await Promise.all([asset(`clip-${number}.bin`), asset(`clip-${number}.webp`)]);
  const area = size * size;
  let at = 0;
  const take = (length) => new Uint8Array(bytes, (at += length) - length, length);
  const frames = take(3 * seconds * area), where = take(seconds * area), masks = take(seconds * area);
  const pcm = (length) => sound(new Int16Array(take(2 * length).slice().buffer));
  const tracks = objects.map(({ name, sounding }) => {
    const samples = new Float32Array(seconds * rate);
    sounding.forEach((on, second) => on && samples.set(pcm(rate), second * rate));
    return { name, samples };
  });
  tracks.push({ name: "background noise", samples: pcm(seconds * rate) });
  const image = await createImageBitmap(new Blob([picture], { type: "image/webp" }));
  return { ...about, number, size, rate, frames, where, masks, tracks, view: { image, side: view } };
}

/** The box of object k in a second, in shares of the frame's side; null where it is not seen. */
export function place(clip, k, second) {
  const { size, where } = clip, start = second * size * size;
  let x0 = size, y0 = size, x1 = 0, y1 = 0;
  for (let p = 0; p < size * size; p++) {
    if (where[start + p] !== k + 1) continue;
    const x = p % size, y = (p / size) | 0;
    x0 = Math.min(x0, x);
    y0 = Math.min(y0, y);
    x1 = Math.max(x1, x + 1);
    y1 = Math.max(y1, y + 1);
  }
  if (!x1) return null;
  return { x0: x0 / size, y0: y0 / size, x1: x1 / size, y1: y1 / size };
}

/** What stands at the same places of a square with another side, nearest. */
export function sampled(values, from, to) {
  if (from === to) return values;
  const at = (k) => Math.floor(((k + 0.5) * from) / to);
  return Float32Array.from({ length: to * to }, (_, p) => values[at((p / to) | 0) * from + at(p % to)]);
}

/** The object that is seen at a place of the picture, from 0 to 1; null where there is none. */
export function objectAt({ size, where }, second, x, y) {
  const [column, row] = [x, y].map((at) => Math.min(size - 1, Math.max(0, Math.floor(at * size))));
  const found = where[(second * size + row) * size + column];
  return found ? found - 1 : null;
}
