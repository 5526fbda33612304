// The page: what a visitor does, and what is shown of it.
import "./policy.js";
import { asset, json } from "./assets.js";
import * as challenges from "./challenges.js";
import { Card } from "./card.js";
import { loadClip, place } from "./clip.js";
import { Device } from "./device.js";
import * as draw from "./draw.js";
import { Inside } from "./inside.js";
import { choices, element, Spot, Strip } from "./mixer.js";
import { mix, rms, sum, whiteNoise } from "./mix.js";
import { Model } from "./model.js";
import { ownClip } from "./own.js";
import { objectsIn, stored, truthOf } from "./seen.js";
import { Player } from "./sound.js";
import { asRecorded, fromAddress, level, sounds, toAddress, untouched } from "./state.js";
import { Thinker } from "./thinker.js";
import { iou, unjudged, verdict } from "./verdict.js";

const find = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const player = new Player(), device = new Device(), model = new Model();
const thinker = new Thinker(model, answered, (error) => (find("live").textContent = `the model failed: ${error.message}`));
const clips = new Map(); // by number: promises
let edition, state, clip, heard, strips, spots, clipChoices, seconds, inside, cards = [], changed = 0;

// For those who look, and for the tests.
const page = (window.live = { model, thinker, points: challenges.points, responses: [], started: performance.now(), firstPicture: 0, firstMask: 0,
                              get state() { return state; }, get clip() { return clip; }, get heard() { return heard; } });

const clipNumber = (number) => {
  if (!clips.has(number)) clips.set(number, loadClip(number, edition));
  return clips.get(number);
};

// --- what is heard ---

/** All that sounds: [samples, level], tracks first, then white noise and the other clip. */
function parts() {
  const tracks = clip.tracks.map(({ samples }, k) => [samples, level(state, k)]);
  return [...tracks, [clip.white, state.noise], [clip.other ?? new Float32Array(0), state.donor]];
}

function mixed() {
  const key = `${sounds(state)} ${clip.name} ${clip.otherNumber}`;
  if (heard?.key !== key) heard = { key, ...mix(parts(), clip.seconds * clip.rate) };
  return heard;
}

/** White noise as loud as the clip is, and the other clip's sound. */
async function complete(given) {
  given.white ??= whiteNoise(given.seconds * given.rate).map((sample) => sample * given.loudness);
  if (given.otherNumber === state.donorClip) return;
  const { tracks } = await clipNumber(state.donorClip);
  const samples = new Float32Array(given.seconds * given.rate);
  samples.set(sum(tracks.map((track) => track.samples)).subarray(0, samples.length));
  Object.assign(given, { other: samples, otherNumber: state.donorClip });
}

// --- changes ---

/** After each change of what is set. */
function change() {
  changed = performance.now();
  const { key, waveform, factor } = mixed();
  thinker.want({ key, clip, waveform, second: state.second });
  player.setLevels(parts().map(([, gain]) => gain), factor);
  show();
  remember();
}

let writing = 0;
function remember() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const words = clip.own ? "" : toAddress(state, edition);
    history.replaceState(null, "", words ? `#${words}` : location.pathname + location.search);
  }, 120);
}

function toggle(k) {
  if (!state.muted.delete(k)) state.muted.add(k);
  if (!state.muted.has(k) && state.gains[k] === 0) state.gains[k] = 1;
  change();
}

async function open(given) {
  const sounding = player.on;
  player.stop();
  given.loudness ??= rms(sum(given.tracks.map((track) => track.samples)));
  await complete(given);
  clip = given;
  thinker.forget();
  build();
  change();
  if (sounding) play();
}

/** The clip that the state asks for; of two in a hurry, the last. */
async function openClip() {
  const asked = state.clip, given = await clipNumber(asked);
  if (asked === state.clip) await open(given);
}

async function own(files) {
  const made = await ownClip(clip, files);
  Object.assign(state, { second: 0, gains: made.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 });
  await open(made);
}

// --- controls ---

function build() {
  strips = clip.tracks.map(({ name }, k) => new Strip(`level-${k}`, name, {
    mute: () => toggle(k),
    gain: (gain) => { state.gains[k] = gain; state.muted.delete(k); change(); },
    pictured: k < clip.objects.length,
  }));
  const noise = new Strip("level-noise", "white noise", { gain: (gain) => { state.noise = gain; change(); }, pictured: false });
  const select = element("select", { "aria-label": "Which other clip is heard" });
  edition.clips.forEach((one, k) => {
    const option = element("option", { value: k }, `clip ${k + 1}: ${names(one)}`);
    option.selected = k === state.donorClip;
    select.append(option);
  });
  select.addEventListener("change", async () => {
    state.donorClip = Number(select.value);
    await complete(clip);
    if (player.on) play();
    change();
  });
  const other = new Strip("level-other", "another clip's sound", {
    gain: (gain) => { state.donor = gain; change(); }, extra: select, pictured: false,
  });
  strips.push(noise, other);
  find("strips").replaceChildren(...strips.map((strip) => strip.element));
  clip.objects.forEach((_, k) => {
    const second = [...Array(clip.seconds).keys()].find((t) => place(clip, k, t));
    if (second !== undefined) draw.thumbnail(strips[k].picture, clip, place(clip, k, second), second);
  });
  spots = clip.objects.map(({ name }, k) => new Spot(name, () => toggle(k)));
  find("spots").replaceChildren(...spots.map((spot) => spot.element));
  find("seconds").replaceChildren();
  const labels = Array.from({ length: clip.seconds }, (_, t) => [`second ${t + 1}`, t ? `${t + 1}` : "second 1"]);
  seconds = choices(find("seconds"), "second", labels, (t) => {
    state.second = t;
    if (player.on) play();
    change();
  });
  clipChoices.forEach(({ input }, k) => (input.checked = !clip.own && k === state.clip));
  showSeconds();
}

const names = (one) => one.objects.map(({ name }) => name).join(", ");

function play() {
  const { factor } = mixed();
  player.start(parts(), factor, clip.rate, clip.seconds, state.second);
  follow();
}

function follow() {
  find("play").setAttribute("aria-pressed", String(player.on));
  find("play").setAttribute("aria-label", player.on ? "Stop the sound" : "Play the sound");
  find("head").hidden = !player.on;
  if (!player.on) return meters();
  const { position } = player, second = Math.min(clip.seconds - 1, Math.floor(position));
  const shown = still.matches ? second : position;
  find("head").style.left = `${(100 * shown) / clip.seconds}%`;
  if (second !== state.second) {
    state.second = second;
    change();
  }
  meters(still.matches ? null : position);
  requestAnimationFrame(follow);
}

/** How loud each sound is in the mix: around a position in seconds, or over the second that is shown. */
function meters(position = null) {
  const { rate } = clip, { factor } = mixed();
  const [from, width] = position === null ? [state.second * rate, rate] : [Math.floor(position * rate), rate / 16];
  parts().forEach(([samples, gain], k) => {
    const [a, b] = [Math.max(0, from - (position === null ? 0 : width)), Math.min(samples.length, from + width)];
    strips[k].meter(gain * factor * (b > a ? rms(samples, a, b) : 0));
  });
}

// --- what is shown ---

/** The mask of a second: the last that was computed, else PyTorch's, which came with the clip. */
function maskOf(second) {
  const answer = thinker.answers.get(second), standsIn = untouched(state) && (!model.about || model.shipped);
  return answer ? { mask: answer.mask, size: answer.size } : { mask: standsIn ? stored(clip, second) : null, size: clip.size };
}

function show() {
  const { second } = state, { mask, size } = maskOf(second), canvas = find("picture");
  const side = Math.min(1024, Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio))) || 448;
  const truth = find("truth").checked && clip.objects.length ? truthOf(clip, state, second) : null;
  draw.stage(canvas, clip, second, mask, size, truth, side);
  const shared = size === clip.size ? mask : null, objects = objectsIn(clip, state, second, shared);
  seconds.forEach(({ input }, t) => (input.checked = t === second));
  showStrips(objects, second);
  if (!player.on) meters();
  const fresh = thinker.fresh(second);
  if (fresh) showAnswer(fresh, objects, second);
  find("live").classList.toggle("on", Boolean(model.about));
}

function showSecond(t) {
  const { mask, size } = maskOf(t);
  draw.stage(seconds[t].canvas, clip, t, mask, size, null, 96);
}

function showSeconds() {
  seconds.forEach((_, t) => showSecond(t));
}

function showStrips(objects, second) {
  clip.tracks.forEach((_, k) => {
    const muted = state.muted.has(k), object = objects[k];
    strips[k].set({ gain: state.gains[k], muted });
    if (!object) return strips[k].say(muted ? "muted" : "", null);
    const note = level(state, k) === 0 ? "muted" : object.sounding ? "sounds now" : "silent now";
    strips[k].say(note, object.marked);
    spots[k].put(place(clip, k, second));
    spots[k].set(level(state, k) === 0, object.audible);
  });
  strips.at(-2).set({ gain: state.noise, muted: false });
  strips.at(-1).set({ gain: state.donor, muted: false });
}

function showAnswer({ mask, outputs, heard: logMel }, objects, second) {
  inside.draw(clip, second, logMel, outputs);
  const dark = thinker.dark(second), seen = objects.filter(({ marked }) => marked !== null);
  if (dark !== undefined) {
    const found = clip.objects.length ? verdict(seen, mask, dark) : unjudged(mask, dark);
    const box = find("verdict"), sentence = found.text[0].toUpperCase() + found.text.slice(1);
    box.className = `verdict ${found.good === null ? "" : found.good ? "good" : "bad"}`;
    if (find("verdict-title").textContent !== found.title) find("verdict-title").textContent = found.title;
    if (find("verdict-text").textContent !== sentence) find("verdict-text").textContent = sentence;
  }
  const judged = seen.length && mask.length === clip.size ** 2;
  find("agreement").textContent = judged ? `IoU with what is heard: ${iou(mask, truthOf(clip, state, second)).toFixed(2)}` : "";
  const marked = seen.filter((one) => one.marked >= 0.5).map(({ name }) => name);
  find("picture").setAttribute("aria-label", `Second ${second + 1}. Marked: ${marked.join(", ") || "no known thing"}.`);
  cards.forEach((card) => card.show(seen, untouched(state)));
}

/** The model has answered for a second. */
function answered(second, ms) {
  device.add(ms);
  if (second === state.second && changed && thinker.fresh(second)) {
    page.responses.push(performance.now() - changed);
    changed = 0;
  }
  if (!inside || inside.about !== model.about) inside = new Inside(model.about, thinker.answers.get(second).outputs);
  page.firstMask ||= performance.now() - page.started;
  showSecond(second);
  if (second === state.second) show();
  find("live").textContent = `live: ${model.inferences} inferences`;
  find("speed").textContent = device.headline;
  find("speed-text").textContent = device.text;
}

// --- the start ---

function listen() {
  find("play").addEventListener("click", () => {
    player.on ? player.stop() : play();
    if (!player.on) follow();
  });
  find("reset").addEventListener("click", () => {
    const plain = asRecorded(edition, state.clip);
    Object.assign(state, clip.own ? { gains: clip.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 }
      : { ...plain, second: state.second, donorClip: state.donorClip });
    change();
  });
  find("truth").addEventListener("change", show);
  addEventListener("resize", () => clip && show());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    if (!clip) return;
    show();
    showSeconds();
  });
  addEventListener("hashchange", () => {
    state = fromAddress(location.hash, edition);
    openClip();
  });
  find("measure").addEventListener("click", async ({ target }) => {
    target.disabled = true;
    find("copied").textContent = "measuring ...";
    const { frame, heard: logMel } = thinker.answers.get(state.second);
    device.shares = await model.profile(frame, logMel);
    find("speed-text").textContent = device.text;
    find("copied").textContent = "";
    target.disabled = false;
  });
  find("copy").addEventListener("click", async () => {
    const line = device.report(model.about);
    const copied = await navigator.clipboard?.writeText(line).then(() => true, () => false);
    find("copied").textContent = copied ? "copied" : line; // to be copied by hand
  });
  find("sources")?.addEventListener("click", async () => {
    const url = URL.createObjectURL(new Blob([await asset("sources.tar")], { type: "application/x-tar" }));
    element("a", { href: url, download: "sources.tar" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  const files = { "own-picture": ([picture]) => own({ picture }), "own-sounds": (list) => own({ sounds: [...list] }),
                  "own-model": ([file]) => loadOwn(file) };
  for (const [id, take] of Object.entries(files)) find(id).addEventListener("change", ({ target }) => taken(target, take));
}

async function taken(input, take) {
  if (!input.files.length) return;
  find("own-said").textContent = "reading ...";
  try {
    find("own-said").textContent = (await take(input.files)) ?? "Done: it is on the desk.";
  } catch (error) {
    find("own-said").textContent = error.message;
  }
  input.value = "";
}

async function loadOwn(file) {
  await useModel(await file.arrayBuffer());
  const { source, method, parameters, size } = model.about;
  return `${source}: ${method}, ${(parameters / 1e6).toFixed(2)} million parameters, ${size.join(" × ")} px.`;
}

async function useModel(bytes, shipped = false) {
  await model.load(bytes);
  model.shipped = shipped;
  device.clear();
  thinker.forget();
  for (const id of ["measure", "copy"]) find(id).disabled = false;
  change();
}

async function start() {
  edition = await json("clips.json");
  state = fromAddress(location.hash, edition);
  const labels = edition.clips.map((one, k) => [`Clip ${k + 1}: ${names(one)}`, ""]);
  clipChoices = choices(find("clips"), "clip", labels, (k) => {
    const { noise, donor } = state;
    state = { ...asRecorded(edition, k), noise, donor };
    openClip();
  });
  clip = await clipNumber(state.clip);
  clip.loudness = rms(sum(clip.tracks.map((track) => track.samples)));
  clip.white = whiteNoise(clip.seconds * clip.rate).map((sample) => sample * clip.loudness);
  listen();
  build();
  show();
  page.firstPicture = performance.now() - page.started;
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  model.prepare();
  const loading = asset("model.onnx").then((bytes) => useModel(bytes, true));
  cards = (await challenges.load()).map((task) => new Card(task));
  find("challenges").replaceChildren(...cards.map(({ element: card }) => card));
  await loading;
  await complete(clip);
  change();
  for (let k = 0; k < edition.clips.length; k++) {
    draw.stage(clipChoices[k].canvas, await clipNumber(k), edition.clips[k].start, null, edition.size, null, 96);
  }
}

start().catch((error) => (find("live").textContent = `something went wrong: ${error.message}`));
