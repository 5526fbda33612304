// The page: what a visitor does, and what follows.
import "./policy.js";
import { asset, json } from "./assets.js";
import * as challenges from "./challenges.js";
import { Card } from "./card.js";
import { loadClip, objectAt } from "./clip.js";
import { find } from "./mixer.js";
import { Device } from "./device.js";
import { mix, rms, sum, whiteNoise } from "./mix.js";
import { Model } from "./model.js";
import { ownClip } from "./own.js";
import { listen } from "./panels.js";
import { Player } from "./sound.js";
import { asRecorded, fromAddress, level, sounds, toAddress } from "./state.js";
import { Thinker } from "./thinker.js";
import { View } from "./view.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const clips = new Map(); // by number: promises
let changed = 0, opening = 0, choosing = 0, loading = 0, frame = 0, loaded = Promise.resolve();

/** Everything that the page knows: what there is, what is set, what is heard. */
const desk = {
  player: new Player(), device: new Device(), model: new Model(), edition: null, state: null, clip: null, heard: null,
  parts, mixed, change, toggle, play, stop, chooseSecond, chooseClip, chooseOther: (number) => told(chooseOther(number)), own, useModel, reset, link,
};
const { player, device, model } = desk;
desk.thinker = new Thinker(model, answered, (error) => problem(`The network failed: ${error.message}`));
const view = (desk.view = new View(desk)), { thinker } = desk;

// For those who look, and for the tests.
const page = (window.live = { model, thinker, points: challenges.points, responses: [], started: performance.now(), firstPicture: 0, firstMask: 0,
                              get state() { return desk.state; }, get edition() { return desk.edition; }, get clip() { return desk.clip; }, get heard() { return desk.heard; } });

/** One that cannot be loaded is asked for again the next time. */
function clipNumber(number) {
  if (!clips.has(number)) {
    clips.set(number, loadClip(number, desk.edition));
    clips.get(number).catch(() => clips.delete(number));
  }
  return clips.get(number);
}

/** What went wrong, until something goes right. */
const problem = (words) => (find("problem").textContent = words);

// --- what is heard ---

/** All that sounds: [samples, level], tracks first, then white noise and the other clip. */
function parts() {
  const { clip, state } = desk, tracks = clip.tracks.map(({ samples }, k) => [samples, level(state, k)]);
  return [...tracks, [clip.white, state.noise], [clip.other ?? new Float32Array(0), state.donor]];
}

function mixed() {
  const { clip, state } = desk, key = `${sounds(state)} ${clip.name} ${clip.otherNumber}`;
  if (desk.heard?.key !== key) desk.heard = { key, ...mix(parts(), clip.seconds * clip.rate) };
  return desk.heard;
}

/** White noise as loud as the clip is. */
function withNoise(given) {
  given.loudness ??= rms(sum(given.tracks.map((track) => track.samples)));
  given.white ??= whiteNoise(given.seconds * given.rate).map((sample) => sample * given.loudness);
  return given;
}

/** The sound of the other clip, as long as the given one. */
async function otherSound(given, number) {
  if (given.otherNumber === number) return {};
  const { tracks } = await clipNumber(number), samples = new Float32Array(given.seconds * given.rate);
  samples.set(sum(tracks.map((track) => track.samples)).subarray(0, samples.length));
  return { other: samples, otherNumber: number };
}

// --- changes ---

/** After each change of what is set. */
function change() {
  changed = performance.now();
  const { key, waveform, factor } = mixed();
  thinker.want({ key, clip: desk.clip, waveform, second: desk.state.second });
  player.setLevels(parts().map(([, gain]) => gain), factor);
  view.show();
  remember();
}

let writing = 0;
function remember() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", link()), 120);
}

/** The address of what is set; of a visitor's own files nothing can be said in one. */
function link() {
  const words = desk.clip.own ? "" : toAddress(desk.state, desk.edition);
  return words ? `#${words}` : location.pathname + location.search;
}

/** Mutes track k, or whichever thing is seen at a place of the picture: [x, y] from 0 to 1. */
function toggle(k, place = null) {
  const { clip, state } = desk, asked = place ? objectAt(clip, state.second, ...place) ?? k : k;
  if (level(state, asked)) state.muted.add(asked);
  else {
    state.muted.delete(asked);
    state.gains[asked] ||= 1;
  }
  change();
}

/** Puts a clip and what is set on the desk, both at once; of several in a hurry, the last. given: a promise of both.
 * Returns what it was given, null where it came too late. */
async function open(given) {
  const turn = ++opening;
  try {
    const { clip, state, said } = await given, other = await otherSound(withNoise(clip), state.donorClip);
    if (turn !== opening) return null;
    const sounding = player.on;
    player.stop();
    Object.assign(desk, { state, clip: Object.assign(clip, other), heard: null });
    thinker.forget();
    find("own-said").textContent = "";
    problem("");
    view.build();
    change();
    if (sounding) play();
    return said;
  } catch (error) {
    if (turn === opening) {
      view.build(); // as it was
      view.show();
    }
    throw error;
  }
}

const openClip = (state) => told(open(clipNumber(state.clip).then((clip) => ({ clip, state }))));

function chooseClip(number) {
  return openClip(asRecorded(desk.edition, number));
}

/** A visitor's files on the desk. Returns what was made of them. */
function own(files) {
  return open(ownClip(desk.clip, files).then(({ clip, said }) => {
    const plain = { second: 0, gains: clip.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 };
    return { clip, said, state: { ...desk.state, ...plain } };
  }));
}

/** What a visitor asked for and did not get is said. */
const told = (promise) => promise.catch((error) => problem(`It could not be loaded: ${error.message}`));

function chooseSecond(second) {
  desk.state.second = second;
  if (player.on) play();
  change();
}

async function chooseOther(number) {
  const turn = ++choosing, { clip, state } = desk;
  const other = await otherSound(clip, number).catch((error) => {
    view.show(); // as it was
    throw error;
  });
  if (turn !== choosing || desk.state !== state) return; // something else was chosen meanwhile
  state.donorClip = number;
  Object.assign(clip, other);
  problem("");
  if (player.on) play();
  change();
}

function reset() {
  const { clip, state, edition } = desk, own = { gains: clip.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 };
  const recorded = { ...asRecorded(edition, state.clip), second: state.second, donorClip: state.donorClip };
  Object.assign(state, clip.own ? own : recorded);
  change();
}

/** Takes another network, one after the other; of several in a hurry, the last. bytes: or a promise of them. Returns
 * whether it was taken. */
async function useModel(bytes, shipped = false) {
  const turn = ++loading, given = await bytes;
  loaded = loaded.catch(() => {}).then(() => turn === loading && model.load(given, shipped));
  if (!(await loaded)) return false; // what has loaded is told, even if another is asked for by now: that may fail
  device.clear();
  thinker.forget();
  find("own-said").textContent = "";
  problem("");
  find("measure").disabled = false;
  view.tellModel();
  change();
  return true;
}

// --- playing ---

function play() {
  player.start(parts(), mixed().factor, desk.clip.rate, desk.clip.seconds, desk.state.second);
  follow();
}

function stop() {
  player.stop();
  follow();
}

function follow() {
  view.showPlaying(still.matches);
  if (!player.on) return;
  const second = Math.min(desk.clip.seconds - 1, Math.floor(player.position));
  if (second !== desk.state.second) {
    desk.state.second = second;
    change();
  }
  view.meters(still.matches ? null : player.position);
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(follow);
}

// --- the start ---

/** The model has answered for a second. */
function answered(second, ms) {
  device.add(ms);
  if (second === desk.state.second && changed && thinker.fresh(second)) {
    page.responses.push(performance.now() - changed);
    changed = 0;
  }
  page.firstMask ||= performance.now() - page.started;
  view.showAnswered(second);
}

async function start() {
  desk.edition = await json("clips.json");
  desk.state = fromAddress(location.hash, desk.edition);
  desk.clip = withNoise(await clipNumber(desk.state.clip));
  view.buildClips();
  listen(desk);
  addEventListener("hashchange", () => openClip(fromAddress(location.hash, desk.edition)));
  view.build();
  view.show();
  page.firstPicture = performance.now() - page.started;
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  model.prepare();
  const network = useModel(asset("model.onnx"), true);
  told(chooseOther(desk.state.donorClip));
  view.cards = (await challenges.load()).map((task) => new Card(task));
  find("challenges").replaceChildren(...view.cards.map(({ element }) => element));
  await network;
  for (let k = 0; k < desk.edition.clips.length; k++) {
    await clipNumber(k).then((clip) => view.showClip(k, clip), () => {}); // one that fails says so when it is chosen
  }
}

start().catch((error) => problem(`Something went wrong: ${error.message}`));
