// What is heard: all tracks of a clip play at once, in a loop, each at its own level, so that a fader is heard while
// it moves.

export class Player {
  #context = null;
  #playing = null;

  get on() {
    return this.#playing !== null;
  }

  /** Seconds into the clip. */
  get position() {
    if (!this.#playing) return 0;
    const { from, since, length } = this.#playing;
    return (from + Math.max(0, this.#context.currentTime - since)) % length;
  }

  /** sounds: [samples, level] each, of `length` seconds at most. factor: of the whole. */
  start(sounds, factor, rate, length, from) {
    this.stop();
    this.#context ??= new AudioContext();
    this.#context.resume();
    const master = this.#context.createGain(), since = this.#context.currentTime + 0.03;
    master.connect(this.#context.destination);
    const gains = sounds.map(([samples, level]) => {
      const buffer = this.#context.createBuffer(1, Math.round(length * rate), rate);
      buffer.copyToChannel(samples.subarray(0, buffer.length), 0);
      const source = this.#context.createBufferSource(), gain = this.#context.createGain();
      source.buffer = buffer;
      source.loop = true;
      gain.gain.value = level;
      source.connect(gain).connect(master);
      source.start(since, from);
      return { source, gain };
    });
    master.gain.value = factor;
    this.#playing = { gains, master, since, from, length };
  }

  /** In the order of `start`. */
  setLevels(levels, factor) {
    if (!this.#playing) return;
    const { gains, master } = this.#playing, now = this.#context.currentTime;
    levels.forEach((level, k) => gains[k].gain.gain.setTargetAtTime(level, now, 0.02));
    master.gain.setTargetAtTime(factor, now, 0.02);
  }

  stop() {
    for (const { source } of this.#playing?.gains ?? []) source.stop();
    this.#playing?.master.disconnect();
    this.#playing = null;
  }
}
