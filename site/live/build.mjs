// Makes the page of one edition of what build.py has put into a folder:
//     node build.mjs ASSETS OUT
// OUT/page is to be served, OUT/live.html is one file that needs no server: it holds all the rest.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { read } from "./src/metadata.js";

const [assets, out] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url)), page = join(out, "page");
const text = (...path) => readFile(join(...path), "utf8");
const escaped = (words) => words.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
const packed = (bytes) => gzipSync(bytes, { level: 9 });

async function bundled(name) {
  const options = { bundle: true, minify: true, write: false, format: "iife", target: "es2022", charset: "utf8" };
  const made = await build({ entryPoints: [join(here, "src", name)], legalComments: "inline", ...options });
  return made.outputFiles[0].text;
}

const KNOWS = {
  shapes: ({ categories, score }) => "The page's network knows seven silhouettes and their sounds, which were generated: "
    + `${categories.join(", ")}. On new clips of them its mean overlap with the right answer is ${score}. Of a photograph it `
    + "knows nothing.",
  photos: ({ categories, score }) => `The page's network knows ${categories.length} animals, instruments and things, most by `
    + `one photograph and one recording: ${categories.join(", ")}. On new clips of the same photographs and recordings, which `
    + `are like these, its mean overlap with the right answer is ${score}. Another dog, or another bark, it may not know.`,
};

// --- what the page consists of ---

const files = new Map();
for (const name of (await readdir(assets)).sort()) files.set(name, await readFile(join(assets, name)));
const edition = JSON.parse(files.get("clips.json"));
const [app, worker, style, template] = await Promise.all([bundled("main.js"), bundled("worker.js"), text(here, "style.css"),
                                                          text(here, "index.html")]);
const runtime = join(here, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm");
files.set("ort.wasm", await readFile(runtime));
files.set("worker.js", Buffer.from(worker));
edition.models = ["model.onnx", "model-fp32.onnx"].filter((name) => files.has(name)).map((name) => {
  const bytes = files.get(name), { precision } = read(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  return { name, precision, megabytes: bytes.length / 1e6 };
});
files.set("clips.json", Buffer.from(JSON.stringify(edition)));

const { objects, start } = edition.clips[0];
const first = objects.find((one) => one.sounding[start]);
const headline = `Silence the ${first.name}, and its mask goes.`;
const notices = files.get("notices.txt").toString();
const footer = `${files.get("footer.html")}<details><summary>Licences and notices</summary><pre tabindex="0"
  role="region" aria-label="Licences and notices">${escaped(notices)}</pre></details>`;
for (const name of ["notices.txt", "footer.html"]) files.delete(name);

const filled = (parts) => template.replace(/\{\{(\w+)\}\}/g, (_, name) => {
  if (parts[name] === undefined) throw new Error(`index.html asks for ${name}`);
  return parts[name];
});
const common = { headline, footer, knows: KNOWS[edition.edition](edition.knows) };
const policy = (parts) => Object.entries({
  "default-src": "'none'", "img-src": "data:", "worker-src": "blob:", "base-uri": "'none'",
  "form-action": "'none'", ...parts,
}).map((part) => part.join(" ")).join("; ");

// --- a folder to be served ---

await rm(page, { recursive: true, force: true });
await mkdir(page, { recursive: true });
const served = filled({
  ...common, style: '<link rel="stylesheet" href="style.css">', script: '<script src="app.js"></script>',
  policy: policy({ "script-src": "'self' 'wasm-unsafe-eval'", "style-src": "'self'", "connect-src": "'self'" }),
});
await Promise.all([
  writeFile(join(page, "index.html"), served), writeFile(join(page, "app.js"), app), writeFile(join(page, "style.css"), style),
  ...[...files].map(([name, bytes]) => writeFile(join(page, `${name}.gz`), packed(bytes))),
]);

// --- one file ---

const hash = (code) => `'sha256-${createHash("sha256").update(code).digest("base64")}'`;
const element = (name) => `<script type="application/gzip" data-asset="${name}">${packed(files.get(name)).toString("base64")}</script>\n`;
// What the first picture needs stands before the script, which runs while the rest is still being read.
const before = ["clips.json", "clip-0.bin", "clip-0.webp"];
const after = [...files.keys()].filter((name) => ![...before, "model-fp32.onnx"].includes(name));
const single = filled({
  ...common, style: `<style>${style}</style>`,
  script: `${before.map(element).join("")}<script>${app}</script>\n${after.map(element).join("")}<i hidden></i>`,
  policy: policy({ "script-src": `${hash(app)} 'wasm-unsafe-eval'`, "style-src": hash(style), "connect-src": "'none'" }),
}).replace('<html lang="en">', '<html lang="en" data-single>');
await writeFile(join(out, "live.html"), single);

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
let raw = 0;
for (const name of await readdir(page)) raw += (await readFile(join(page, name))).length;
console.log(`${page}: ${megabytes(raw)}; ${join(out, "live.html")}: ${megabytes(Buffer.byteLength(single))}`);
