// The model, in a thread of its own, so that the page stays smooth. It fetches nothing: what it needs is handed to
// it.
import { listen, shares } from "./profile.js";
import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
let session, bytes;

const open = (model, options) => ort.InferenceSession.create(model, { executionProviders: ["wasm"], ...options });

/** A frame (1, 1, 3, H, W) and its log-mel (1, 1, 1, F, M) -> the graph's outputs by name, and milliseconds. */
async function run(on, { frame, size, logMel, shape }) {
  const given = {
    frames: new ort.Tensor("float32", frame, [1, 1, 3, ...size]),
    log_mel: new ort.Tensor("float32", logMel, [1, 1, 1, ...shape]),
  };
  const started = performance.now();
  const found = await on.run(given);
  const ms = performance.now() - started;
  const outputs = {};
  for (const [name, { data, dims }] of Object.entries(found)) outputs[name] = { data, dims };
  return { ms, outputs };
}

const answers = {
  /** size and shape: of a frame and of a log-mel, on which it is tried. */
  async load({ wasm, model, size, shape }) {
    ort.env.wasm.wasmBinary ??= wasm;
    const given = new Uint8Array(model), opened = await open(given);
    try {
      if (opened.inputNames.join() !== "frames,log_mel" || opened.outputNames[0] !== "logits") {
        throw new Error("it has other inputs");
      }
      const [frame, logMel] = [[3, ...size], shape].map((sides) => new Float32Array(sides.reduce((a, b) => a * b)));
      await run(opened, { frame, size, logMel, shape });
    } catch (error) {
      await opened.release();
      throw error;
    }
    const before = session;
    [session, bytes] = [opened, given];
    await before?.release();
  },

  run: (given) => run(session, given),

  /** Of the operators' time, each part's share, over so many runs. */
  async profile({ times, ...given }) {
    const profiled = await open(bytes, { enableProfiling: true });
    for (let i = 0; i <= times; i++) await run(profiled, given);
    const heard = listen();
    profiled.endProfiling();
    const found = shares(heard());
    await profiled.release();
    return found;
  },
};

self.onmessage = async ({ data: { id, ask, ...given } }) => {
  try {
    self.postMessage({ id, answer: await answers[ask](given) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
