// Everything that is painted: the stage with its mask, the seconds, the maps, the vectors.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** "#rrggbb" -> [r, g, b]. */
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export const colours = () => ({
  mask: rgb(css("--mask")), truth: rgb(css("--sound")), low: rgb(css("--cold")), high: rgb(css("--mask")),
  empty: rgb(css("--well")),
});

/** A canvas's context, its pixels as many as its side in the page asks for. */
function prepared(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return canvas.getContext("2d");
}

/** values (size * size) -> (side * side), bilinear. */
function enlarged(values, size, side) {
  const result = new Float32Array(side * side), scale = size / side;
  for (let y = 0; y < side; y++) {
    const v = Math.min(size - 1, Math.max(0, (y + 0.5) * scale - 0.5)), y0 = v | 0, fy = v - y0;
    const y1 = Math.min(size - 1, y0 + 1);
    for (let x = 0; x < side; x++) {
      const u = Math.min(size - 1, Math.max(0, (x + 0.5) * scale - 0.5)), x0 = u | 0, fx = u - x0;
      const x1 = Math.min(size - 1, x0 + 1);
      const above = values[y0 * size + x0] * (1 - fx) + values[y0 * size + x1] * fx;
      const below = values[y1 * size + x0] * (1 - fx) + values[y1 * size + x1] * fx;
      result[y * side + x] = above * (1 - fy) + below * fy;
    }
  }
  return result;
}

function layer(side, paint) {
  const canvas = new OffscreenCanvas(side, side), context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  paint(image.data);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A mask as a field from -1 (outside) to 1 without its stairs: each pixel is averaged with its neighbours. */
function field(mask, size) {
  const clipped = Float32Array.from(mask, (value) => Math.min(1, Math.max(-1, value)));
  const along = (values, step) => values.map((value, p) => {
    const place = step === 1 ? p % size : (p / size) | 0;
    return (values[place ? p - step : p] + 2 * value + values[place < size - 1 ? p + step : p]) / 4;
  });
  return along(along(clipped, 1), size);
}

const between = (value, low, high) => Math.min(1, Math.max(0, (value - low) / (high - low)));

/** Two layers of a mask: where it is, and its colour with a strong edge. */
function maskLayers(mask, size, side, colour) {
  const values = enlarged(field(mask, size), size, side), step = (1.2 * size) / side;
  const inside = layer(side, (data) => {
    for (let p = 0; p < values.length; p++) data[4 * p + 3] = 255 * between(values[p], -step / 2, step / 2);
  });
  const tint = layer(side, (data) => {
    for (let p = 0; p < values.length; p++) {
      const rim = between(values[p], -step / 2, step / 2) * (1 - between(values[p], 1.2 * step, 2 * step));
      data.set([...colour, 255 * (0.78 * between(values[p], -step / 2, step / 2) * (1 - rim) + rim)], 4 * p);
    }
  });
  return { inside, tint };
}

/** A layer with the outlines of what is true. */
function outlineLayer(inside, size, side, colour) {
  const values = enlarged(field(inside.map((on) => 2 * on - 1), size), size, side), width = (2.4 * size) / side;
  return layer(side, (data) => {
    for (let p = 0; p < values.length; p++) {
      const rim = Math.max(0, 1 - Math.abs(values[p]) / width);
      data.set([...colour, 255 * Math.min(1, rim * 1.6)], 4 * p);
    }
  });
}

function picture(context, { image, side }, second, width) {
  const count = Math.round(image.height / side);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, Math.min(second, count - 1) * side, image.width, side, 0, 0, width, width);
}

/** The picture of a second with its mask, (size * size) above 0 where marked, and the truth where it is asked for.
 * What is not marked has hardly a colour. */
export function stage(canvas, clip, second, mask, size, truth, side) {
  const context = prepared(canvas, side, side), { mask: orange, truth: green } = colours();
  const work = Math.min(side, 512);
  context.filter = mask ? "grayscale(0.8) brightness(0.85)" : "none";
  picture(context, clip.view, second, side);
  context.filter = "none";
  if (mask) {
    const { inside, tint } = maskLayers(mask, size, work, orange), bright = new OffscreenCanvas(side, side);
    const inner = bright.getContext("2d");
    inner.drawImage(inside, 0, 0, side, side);
    inner.globalCompositeOperation = "source-in";
    picture(inner, clip.view, second, side);
    context.drawImage(bright, 0, 0);
    context.drawImage(tint, 0, 0, side, side);
  }
  if (truth) context.drawImage(outlineLayer(truth, clip.size, work, green), 0, 0, side, side);
}

/** An object, cut out of the picture of the first second that shows it. */
export function thumbnail(canvas, clip, box, second) {
  const context = prepared(canvas, 88, 88), { image, side } = clip.view;
  const span = Math.max(box.x1 - box.x0, box.y1 - box.y0) * side * 1.15;
  const x = Math.min(side - span, Math.max(0, ((box.x0 + box.x1) / 2) * side - span / 2));
  const y = Math.min(side - span, Math.max(0, ((box.y0 + box.y1) / 2) * side - span / 2));
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, second * side + y, span, span, 0, 0, 88, 88);
}

/** A map (h, w), 0 to 1, over the picture: cell by cell, so that its resolution is seen. */
export function map(canvas, clip, second, { data, dims }) {
  const side = 128, context = prepared(canvas, side, side), [h, w] = dims, [r, g, b] = colours().mask;
  context.filter = "grayscale(1) brightness(0.55)";
  picture(context, clip.view, second, side);
  context.filter = "none";
  const cells = new OffscreenCanvas(w, h), inner = cells.getContext("2d"), image = inner.createImageData(w, h);
  for (let p = 0; p < h * w; p++) image.data.set([r, g, b, 235 * data[p]], 4 * p);
  inner.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, 0, 0, side, side);
}

/** A vector as a bar code: from the colour of its least to that of its most, `most` at full strength. */
export function barcode(canvas, values, most, signed) {
  const context = prepared(canvas, values.length, 1), image = context.createImageData(values.length, 1);
  const { empty, low, high } = colours();
  values.forEach((value, k) => {
    const strength = Math.min(1, Math.abs(value) / (most || 1)), end = signed && value < 0 ? low : high;
    image.data.set([...empty.map((from, c) => from + (end[c] - from) * strength), 255], 4 * k);
  });
  context.putImageData(image, 0, 0);
}

/** The log-mel, time to the right, low tones below. */
export function spectrogram(canvas, values, [windows, bands], silence) {
  const context = prepared(canvas, windows, bands), image = context.createImageData(windows, bands);
  const { empty, truth } = colours();
  const most = Math.max(silence + 4, values.reduce((a, b) => Math.max(a, b), -Infinity));
  for (let w = 0; w < windows; w++) {
    for (let b = 0; b < bands; b++) {
      const strength = Math.max(0, (values[w * bands + b] - silence) / (most - silence)) ** 0.8;
      const at = 4 * ((bands - 1 - b) * windows + w);
      image.data.set([...empty.map((from, c) => from + (truth[c] - from) * strength), 255], at);
    }
  }
  context.putImageData(image, 0, 0);
}
