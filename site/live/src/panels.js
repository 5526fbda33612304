// What stands around the desk: playing and sharing, this device, a visitor's own files.
import { asset } from "./assets.js";
import { element, find } from "./mixer.js";

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
  const { device, model, thinker, edition } = desk, select = find("weights");
  onClick("measure", async ({ target }) => {
    const answer = thinker.fresh(desk.state.second), { about } = model;
    if (!answer) return void (find("copied").textContent = "The network is still at work: once more in a moment.");
    target.disabled = true;
    find("copied").textContent = "measuring ...";
    try {
      const shares = await model.profile(answer.frame, answer.heard);
      if (about === model.about) device.shares = shares;
      find("speed-text").textContent = device.text;
      find("copied").textContent = "";
    } catch (error) {
      find("copied").textContent = `It could not be measured: ${error.message}`;
    }
    target.disabled = false;
  });
  onClick("copy", () => copy(device.report(model.about), "copied", "The line of numbers"));
  const form = ({ precision, megabytes }) => `${precision}, ${megabytes.toFixed(1)} MB`;
  select.append(...edition.models.map((one) => element("option", { value: one.name }, form(one))));
  let current = select.value;
  const load = async () => {
    const asked = select.value;
    find("copied").textContent = "loading ...";
    try {
      if (await desk.useModel(asset(asked), true)) current = asked;
      find("copied").textContent = "";
    } catch (error) {
      find("copied").textContent = `These weights could not be loaded: ${error.message}`;
    }
    if (select.value === asked) select.value = current; // else another was chosen meanwhile
  };
  select.addEventListener("change", load);
  onClick("back", async () => {
    await load();
    find("measure").focus(); // the button is gone
  });
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
        const said = await take(target.files);
        if (said) find("own-said").textContent = said;
      } catch (error) {
        find("own-said").textContent = `${error.message.replace(/\.?$/, ".")} Nothing has changed.`;
      }
      target.value = "";
    });
  }
}

async function ownModel(desk, file) {
  const taken = await desk.useModel(file.arrayBuffer()).catch((error) => {
    throw new Error(`${file.name}: ${error.message}`);
  });
  return taken && `${file.name} computes the masks now.`;
}
