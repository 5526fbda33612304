// What the page is made of: files of its own folder, or parts of itself where it is a single file.

const loaded = () => document.readyState !== "loading";
const parsed = () => new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));

/** The element that holds an asset in a single file; null in a folder. */
async function part(name) {
  const find = () => document.querySelector(`script[data-asset="${CSS.escape(name)}"]`);
  if (!document.querySelector("html[data-single]")) return null;
  const early = find();
  // One that is still being read may be half there: the next element shows that it is whole.
  if (early?.nextElementSibling || loaded()) return early;
  await parsed();
  return find();
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Bytes as they were before gzip; a server may have undone it already. */
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.buffer;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** An asset's bytes. Throws for one that is not there. */
export async function asset(name) {
  const element = await part(name);
  if (element) return unpacked(fromBase64(element.textContent.trim()));
  if (document.querySelector("html[data-single]")) throw new Error(`${name} is not in this file`);
  const response = await fetch(`${name}.gz`);
  if (!response.ok) throw new Error(`${name}: the server says ${response.status}`);
  return unpacked(new Uint8Array(await response.arrayBuffer()));
}

export const json = async (name) => JSON.parse(new TextDecoder().decode(await asset(name)));
