// SPDX-License-Identifier: Apache-2.0
// How fast downloads are, from the bytes of one poll to those of the next.

const AVERAGED_S = 10; // a shorter time jumps with each poll, a longer one is late when the network changes

export class TransferRate {
  #known = new Map(); // by template: bytes, when they were seen, and the average so far

  // Takes the bytes that a template has at a time in ms; returns bytes a second, or null before the second poll.
  note(id, bytes, nowMs) {
    const before = this.#known.get(id);
    if (!before || bytes < before.bytes) { // it began anew
      this.#known.set(id, { bytes, nowMs, rate: null });
      return null;
    }
    const seconds = (nowMs - before.nowMs) / 1000;
    if (seconds <= 0) return before.rate;
    const rate = (bytes - before.bytes) / seconds;
    const weight = before.rate === null ? 1 : Math.min(1, seconds / AVERAGED_S);
    const average = (before.rate ?? 0) * (1 - weight) + rate * weight;
    this.#known.set(id, { bytes, nowMs, rate: average });
    return average;
  }

  forget(id) {
    this.#known.delete(id);
  }
}

// 4200 → "1 h 10 min"; null when it is not known.
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return null;
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
