// The log-mel of one frame, in float64, as the model's own front end computes it: the numbers of the rule come
// with the exported model.

/** Real and imaginary parts, in place: radix-2, decimation in time. Their length is a power of two. */
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let half = 1; half < n; half <<= 1) {
    for (let k = 0; k < half; k++) {
      const angle = (-Math.PI * k) / half, c = Math.cos(angle), s = Math.sin(angle);
      for (let a = k; a < n; a += 2 * half) {
        const b = a + half, x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

/** Waveform at rule.rate, a frame's second -> Float32Array (F * M): F windows, M bands. What the track lacks is
 * silence. */
export function logMel(waveform, second, rule) {
  const { samples, step, window: width, hop, fft: points, shape: [windows, bands] } = rule;
  const heard = new Float64Array(samples);
  heard.set(waveform.subarray(second * step, second * step + samples));
  const before = rule.centred ? points >> 1 : 0, skip = rule.centred ? (points - width) >> 1 : 0;
  const at = (i) => heard[i < 0 ? -i : i < samples ? i : 2 * (samples - 1) - i]; // reflected at the ends
  const hann = Float64Array.from({ length: width }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / width));
  const re = new Float64Array(points), im = new Float64Array(points), magnitude = new Float64Array(points / 2 + 1);
  const result = new Float32Array(windows * bands);
  for (let w = 0; w < windows; w++) {
    re.fill(0);
    im.fill(0);
    for (let i = 0; i < width; i++) re[skip + i] = at(w * hop - before + skip + i) * hann[i];
    fft(re, im);
    for (let k = 0; k < magnitude.length; k++) magnitude[k] = Math.hypot(re[k], im[k]) ** rule.power;
    for (let b = 0; b < bands; b++) {
      const [first, weights] = rule.filters[b];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * magnitude[first + k];
      result[w * bands + b] = rule.factor * Math.log(Math.max(sum, rule.floor) + rule.offset);
    }
  }
  return result;
}
