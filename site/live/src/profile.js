// How long each part of the model takes, by ONNX Runtime's own clock. It writes its profile to the console, and
// keeps the console's function when it starts: this module is imported before it.

let lines = null;
const log = console.log;
console.log = (...words) => (lines ? lines.push(words.join(" ")) : log(...words));

/** Keeps what is written to the console until the function that it returns is called, which returns the lines. */
export function listen() {
  lines = [];
  return () => {
    const heard = lines;
    lines = null;
    return heard;
  };
}

/** The share of each part of the model, which nodes have in their names, in the time of all operators. The first
 * run is left out: it warms up. */
export function shares(profile) {
  const taken = {};
  let runs = 0, all = 0;
  for (const line of profile) {
    if (!line.startsWith("{")) continue;
    const event = JSON.parse(line.replace(/,\s*$/, ""));
    if (event.name === "model_run") runs += 1;
    if (event.cat !== "Node" || !runs || !event.name.endsWith("_kernel_time")) continue;
    const part = event.name.includes("/") ? event.name.split("/")[0] : "other";
    taken[part] = (taken[part] ?? 0) + event.dur;
    all += event.dur;
  }
  return Object.fromEntries(Object.entries(taken).map(([part, time]) => [part, time / all]));
}
