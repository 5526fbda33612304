// What is heard: tracks at their levels, with white noise and another clip's sound. As the package's data/mixing.py.

/** So many samples of white noise of standard deviation 1, the same in each visit (mulberry32, Box-Muller). */
export function whiteNoise(length, seed = 1) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const samples = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    samples[i] = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  }
  return samples;
}

/** The sum of sounds that are equally long. */
export function sum(tracks) {
  const total = new Float32Array(tracks[0].length);
  for (const track of tracks) for (let i = 0; i < total.length; i++) total[i] += track[i];
  return total;
}

export function rms(samples, from = 0, to = samples.length) {
  let power = 0;
  for (let i = from; i < to; i++) power += samples[i] ** 2;
  return Math.sqrt(power / Math.max(1, to - from));
}

/** parts: [samples, level] of each sound -> the waveform, in [-1, 1], and the factor by which the whole was turned
 * down so that nothing is clipped, 1 where it fitted. */
export function mix(parts, length) {
  const waveform = new Float32Array(length);
  for (const [samples, level] of parts) {
    const n = level ? Math.min(length, samples.length) : 0;
    for (let i = 0; i < n; i++) waveform[i] += level * samples[i];
  }
  let peak = 1;
  for (const sample of waveform) peak = Math.max(peak, Math.abs(sample));
  if (peak > 1) for (let i = 0; i < length; i++) waveform[i] /= peak;
  return { waveform, factor: 1 / peak };
}
