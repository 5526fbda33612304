// A visitor's own files. They are read into memory, and stay there.

const MOST_SECONDS = 10, LARGEST = 100e6;

function check(file) {
  if (!file.size) throw new Error(`${file.name} is empty.`);
  if (file.size > LARGEST) throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; at most 100.`);
}

/** A picture as `size` x `size` pixels of 8 bits, RGB: as the dataset does it, its sides are made equal. */
async function pixels(image, size) {
  const canvas = new OffscreenCanvas(size, size), context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, size, size);
  context.drawImage(image, 0, 0, size, size);
  const { data } = context.getImageData(0, 0, size, size), result = new Uint8Array(3 * size * size);
  for (let p = 0; p < size * size; p++) for (let c = 0; c < 3; c++) result[3 * p + c] = data[4 * p + c];
  return result;
}

/** A sound, mono, at `rate`: the first seconds of it. */
async function samples(file, rate) {
  check(file);
  const context = new OfflineAudioContext(1, 1, rate); // decoding resamples to its rate
  let buffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name}: this browser cannot decode it. Try a WAV file.`);
  }
  const length = Math.min(buffer.length, MOST_SECONDS * rate), mono = new Float32Array(length);
  for (let c = 0; c < buffer.numberOfChannels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < length; i++) mono[i] += channel[i] / buffer.numberOfChannels;
  }
  const heard = buffer.length > length ? `the first ${MOST_SECONDS} of ${buffer.duration.toFixed(1)} seconds are heard`
    : `${buffer.duration.toFixed(1)} seconds`;
  return { name: file.name.replace(/\.[^.]*$/, "").slice(0, 40), samples: mono, said: `${file.name}: ${heard}.` };
}

/** Another clip with a visitor's picture, sounds, or both; of the clip before what is not given. With it, what was made
 * of the files. */
export async function ownClip(clip, { picture, sounds }) {
  const tracks = sounds ? await Promise.all(sounds.map((file) => samples(file, clip.rate))) : null;
  const longest = tracks ? Math.max(...tracks.map((track) => track.samples.length)) : 0;
  const seconds = tracks ? Math.max(1, Math.min(MOST_SECONDS, Math.ceil(longest / clip.rate))) : clip.seconds;
  const made = { ...clip, name: "your own", seconds, own: true, other: undefined, otherNumber: undefined }, said = (tracks ?? []).map((track) => track.said);
  if (tracks) {
    Object.assign(made, { loudness: undefined, white: undefined });
    made.tracks = tracks.map(({ name, samples: given }) => {
      const padded = new Float32Array(seconds * clip.rate);
      padded.set(given.subarray(0, padded.length));
      return { name, samples: padded };
    });
  }
  const { size } = clip, area = size * size;
  const still = async (image, rgb) => {
    made.frames = new Uint8Array(3 * area * seconds);
    for (let t = 0; t < seconds; t++) made.frames.set(rgb, 3 * area * t);
    made.view = { image, side: image.height };
  };
  if (picture) {
    check(picture);
    let source;
    try {
      source = await createImageBitmap(picture);
    } catch {
      throw new Error(`${picture.name}: this browser cannot read it as a picture.`);
    }
    const square = { resizeWidth: 448, resizeHeight: 448, resizeQuality: "high" };
    await still(await createImageBitmap(source, square), await pixels(source, size));
    const squeezed = source.width === source.height ? "" : ", squeezed to a square", heard = tracks ? "" : " The sounds are those of before.";
    said.push(`${picture.name}: ${source.width} × ${source.height} pixels${squeezed}.${heard}`);
  } else if (seconds !== clip.seconds) {
    const { image, side } = clip.view;
    await still(await createImageBitmap(image, 0, 0, image.width, side), clip.frames.slice(0, 3 * area));
  }
  // Who is where and who sounds is known of neither.
  made.objects = [];
  made.where = new Uint8Array(area * seconds);
  made.masks = null;
  if (!tracks) made.tracks = clip.tracks;
  return { clip: made, said: said.join(" ") };
}

/** Frames of another size, for a model that asks for it: (seconds, size, size, 3). */
export async function resizedFrames(clip, size) {
  const { frames, seconds, size: from } = clip, result = new Uint8Array(3 * size * size * seconds);
  for (let t = 0; t < seconds; t++) {
    const image = new ImageData(from, from);
    for (let p = 0; p < from * from; p++) {
      const at = 3 * (t * from * from + p);
      image.data.set([frames[at], frames[at + 1], frames[at + 2], 255], 4 * p);
    }
    result.set(await pixels(await createImageBitmap(image), size), 3 * size * size * t);
  }
  return result;
}

/** A waveform at another rate. */
export async function resampled(waveform, from, to) {
  if (from === to) return waveform;
  const context = new OfflineAudioContext(1, Math.round((waveform.length * to) / from), to);
  const buffer = context.createBuffer(1, waveform.length, from), source = context.createBufferSource();
  buffer.copyToChannel(waveform, 0);
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}
