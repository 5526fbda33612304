// What an exported model says of itself. ONNX is a protobuf; of it only the list of properties is read here. A
// file may come from anybody: nothing in it is believed before it was looked at.

const PROPERTIES = 14, LARGEST = 400e6, MOST = 4096;

/** Field 14 of a ModelProto: pairs of (1) a key and (2) a value. */
function properties(bytes) {
  const view = new Uint8Array(bytes), text = new TextDecoder(), found = {};
  function* fields(at, end) {
    const varint = () => {
      let value = 0, scale = 1;
      for (;;) {
        if (at >= end || scale > 2 ** 49) throw new Error("it is cut off");
        const byte = view[at++];
        value += (byte & 127) * scale;
        if (byte < 128) return value;
        scale *= 128;
      }
    };
    while (at < end) {
      const tag = varint(), kind = tag & 7;
      if (kind === 0) varint();
      else if (kind === 1 || kind === 5) at += kind === 1 ? 8 : 4;
      else if (kind === 2) {
        const length = varint();
        if (at + length > end) throw new Error("it is cut off");
        yield [Math.floor(tag / 8), at, at + length];
        at += length;
      } else throw new Error("it is no ONNX file");
    }
  }
  for (const [number, start, stop] of fields(0, view.length)) {
    if (number !== PROPERTIES) continue;
    const pair = {};
    for (const [part, from, to] of fields(start, stop)) pair[part] = text.decode(view.subarray(from, to));
    found[pair[1]] = pair[2];
  }
  return found;
}

const isCount = (n) => Number.isInteger(n) && n > 0 && n <= MOST;

function isRule(rule) {
  const { rate, samples, step, shape, window, hop, fft, filters, power, floor, offset, factor } = rule;
  const [windows, bands] = shape;
  const counts = [windows, bands, window, hop, fft].every(isCount) && (fft & (fft - 1)) === 0 && window <= fft;
  const long = [rate, samples, step].every((n) => Number.isInteger(n) && n > 0 && n <= 200_000)
    && rate >= 8000 && rate <= 96_000; // to which every browser can resample
  const triangles = filters.length === bands && filters.every(([first, weights]) =>
    Number.isInteger(first) && first >= 0 && first + weights.length <= fft / 2 + 1 && weights.every(Number.isFinite));
  const numbers = [power, floor, offset, factor].every(Number.isFinite);
  return counts && long && triangles && numbers;
}

/** What `lightavseg export --runtime web` wrote. Throws, in words for a visitor, for anything else. */
export function read(bytes) {
  const advice = "A network for this page is written by: lightavseg export MODEL --runtime web.";
  if (!bytes.byteLength) throw new Error(`The file is empty. ${advice}`);
  if (bytes.byteLength > LARGEST) throw new Error(`It has ${Math.round(bytes.byteLength / 1e6)} MB; at most 400.`);
  let found, about, page;
  try {
    found = properties(bytes);
  } catch {
    throw new Error(`This is no ONNX file. ${advice}`);
  }
  if (!found["lightavseg.page"]) throw new Error(`This ONNX file was not made for this page. ${advice}`);
  try {
    about = JSON.parse(found["lightavseg"]);
    page = JSON.parse(found["lightavseg.page"]);
    const [height, width] = about.size;
    const right = isCount(height) && height === width && height * width <= 2e6 && about.seconds === 1;
    if (!right || !isCount(about.num_classes) || !isRule(page)) throw new Error("numbers");
    page.steps.forEach((name) => { if (typeof name !== "string") throw new Error("names"); });
  } catch {
    throw new Error(`What this file says of itself is wrong. ${advice}`);
  }
  const { size, source, precision, method } = about;
  const words = [source, precision, method].map((word) => String(word).slice(0, 60));
  return { size, source: words[0], precision: words[1], method: words[2], rule: page,
           steps: page.steps.slice(0, 64), parameters: Number(page.parameters) || 0 };
}
