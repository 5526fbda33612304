// What stands around the desk: playing and sharing, this device, a visitor's own files.
import { asset } from "./assets.js";
import { element } from "./mixer.js";

const find = (id) => document.getElementById(id);
const onClick = (id, act) => find(id)?.addEventListener("click", act);

/** Puts a text where it can be pasted from; where that is forbidden, it is shown to be copied by hand. */
async function copy(text, id, what) {
  const copied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  find(id).textContent = copied ? `${what} is copied.` : text;
}

export function listen(desk) {
  const { player, view } = desk;
  onClick("play", () => (player.on ? desk.stop() : desk.play()));
  onClick("reset", desk.reset);
  onClick("share", () => copy(new URL(desk.link(), location.href).href, "shared", "A link to what is set"));
  find("truth").addEventListener("change", () => view.show());
  addEventListener("resize", () => view.show());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    view.show();
    view.showSeconds();
  });
  onClick("sources", async () => {
    const url = URL.createObjectURL(new Blob([await asset("sources.tar")], { type: "application/x-tar" }));
    element("a", { href: url, download: "sources.tar" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  listenDevice(desk);
  listenOwn(desk);
}

function listenDevice(desk) {
  const { device, model, thinker, edition } = desk;
  onClick("measure", async ({ target }) => {
    target.disabled = true;
    find("copied").textContent = "measuring ...";
    const { frame, heard } = thinker.answers.get(desk.state.second);
    device.shares = await model.profile(frame, heard);
    find("speed-text").textContent = device.text;
    find("copied").textContent = "";
    target.disabled = false;
  });
  onClick("copy", () => copy(device.report(model.about), "copied", "The line of numbers"));
  const select = find("weights"), form = ({ precision, megabytes }) => `${precision}, ${megabytes.toFixed(1)} MB`;
  select.append(...edition.models.map((one) => element("option", { value: one.name }, form(one))));
  // A single file holds the first alone.
  find("weights-choice").hidden = edition.models.length < 2 || document.querySelector("html[data-single]") !== null;
  const load = async () => desk.useModel(await asset(select.value), true);
  select.addEventListener("change", load);
  onClick("back", load);
}

function listenOwn(desk) {
  const files = {
    "own-picture": ([picture]) => desk.own({ picture }),
    "own-sounds": (sounds) => desk.own({ sounds: [...sounds] }),
    "own-model": ([file]) => ownModel(desk, file),
  };
  for (const [id, take] of Object.entries(files)) {
    find(id).addEventListener("change", async ({ target }) => {
      if (!target.files.length) return;
      find("own-said").textContent = "reading ...";
      try {
        find("own-said").textContent = await take(target.files);
      } catch (error) {
        find("own-said").textContent = `${error.message} Nothing has changed.`;
      }
      target.value = "";
    });
  }
}

async function ownModel(desk, file) {
  await desk.useModel(await file.arrayBuffer()).catch((error) => {
    throw new Error(`${file.name}: ${error.message}`);
  });
  const { source, method } = desk.model.about;
  return `${file.name}: ${source} (${method}) computes the masks now.`;
}
