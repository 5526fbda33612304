// The page: what a visitor does, and what follows.
import "./policy.js";
import { asset, json } from "./assets.js";
import * as challenges from "./challenges.js";
import { Card } from "./card.js";
import { loadClip, objectAt } from "./clip.js";
import { Device } from "./device.js";
import { mix, rms, sum, whiteNoise } from "./mix.js";
import { Model } from "./model.js";
import { ownClip } from "./own.js";
import { listen } from "./panels.js";
import { Player } from "./sound.js";
import { asRecorded, fromAddress, level, sounds, toAddress } from "./state.js";
import { Thinker } from "./thinker.js";
import { View } from "./view.js";

const find = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const clips = new Map(); // by number: promises
let changed = 0;

/** Everything that the page knows: what there is, what is set, what is heard. */
const desk = {
  player: new Player(), device: new Device(), model: new Model(), edition: null, state: null, clip: null, heard: null,
  parts, mixed, change, toggle, play, stop, chooseSecond, chooseClip, chooseOther, own, useModel, reset, link,
};
const { player, device, model } = desk;
desk.thinker = new Thinker(model, answered, (error) => (find("live").textContent = `the network failed: ${error.message}`));
const view = (desk.view = new View(desk)), { thinker } = desk;

// For those who look, and for the tests.
const page = (window.live = { model, thinker, points: challenges.points, responses: [], started: performance.now(), firstPicture: 0, firstMask: 0,
                              get state() { return desk.state; }, get edition() { return desk.edition; }, get clip() { return desk.clip; }, get heard() { return desk.heard; } });

function clipNumber(number) {
  if (!clips.has(number)) clips.set(number, loadClip(number, desk.edition));
  return clips.get(number);
}

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

/** With white noise, and with the other clip's sound. */
async function complete(given) {
  withNoise(given);
  const { donorClip } = desk.state;
  if (given.otherNumber === donorClip) return;
  const { tracks } = await clipNumber(donorClip);
  const samples = new Float32Array(given.seconds * given.rate);
  samples.set(sum(tracks.map((track) => track.samples)).subarray(0, samples.length));
  Object.assign(given, { other: samples, otherNumber: donorClip });
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

async function open(given) {
  const sounding = player.on;
  player.stop();
  await complete(given);
  desk.clip = given;
  thinker.forget();
  view.build();
  change();
  if (sounding) play();
}

/** The clip that the state asks for; of two in a hurry, the last. */
async function openClip() {
  const asked = desk.state.clip, given = await clipNumber(asked);
  if (asked === desk.state.clip) await open(given);
}

function chooseClip(number) {
  desk.state = asRecorded(desk.edition, number);
  return openClip();
}

function chooseSecond(second) {
  desk.state.second = second;
  if (player.on) play();
  change();
}

async function chooseOther(number) {
  desk.state.donorClip = number;
  await complete(desk.clip);
  if (player.on) play();
  change();
}

function reset() {
  const { clip, state, edition } = desk, own = { gains: clip.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 };
  const recorded = { ...asRecorded(edition, state.clip), second: state.second, donorClip: state.donorClip };
  Object.assign(state, clip.own ? own : recorded);
  change();
}

/** A visitor's files on the desk. Returns what was made of them. */
async function own(files) {
  const { clip, said } = await ownClip(desk.clip, files);
  Object.assign(desk.state, { second: 0, gains: clip.tracks.map(() => 1), muted: new Set(), noise: 0, donor: 0 });
  await open(clip);
  return said;
}

async function useModel(bytes, shipped = false) {
  await model.load(bytes);
  model.shipped = shipped;
  device.clear();
  thinker.forget();
  for (const id of ["measure", "copy"]) find(id).disabled = false;
  view.tellModel();
  change();
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
  view.showPlaying();
  if (!player.on) return;
  const second = Math.min(desk.clip.seconds - 1, Math.floor(player.position));
  if (second !== desk.state.second) {
    desk.state.second = second;
    change();
  }
  view.meters(still.matches ? null : player.position);
  requestAnimationFrame(follow);
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
  view.buildClips();
  desk.clip = withNoise(await clipNumber(desk.state.clip));
  listen(desk);
  addEventListener("hashchange", () => {
    desk.state = fromAddress(location.hash, desk.edition);
    openClip();
  });
  view.build();
  view.show();
  page.firstPicture = performance.now() - page.started;
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  model.prepare();
  const loading = asset("model.onnx").then(async (bytes) => {
    await complete(desk.clip);
    return useModel(bytes, true);
  });
  view.cards = (await challenges.load()).map((task) => new Card(task));
  find("challenges").replaceChildren(...view.cards.map(({ element }) => element));
  await loading;
  for (let k = 0; k < desk.edition.clips.length; k++) view.showClip(k, await clipNumber(k));
}

start().catch((error) => (find("live").textContent = `something went wrong: ${error.message}`));
