// SPDX-License-Identifier: Apache-2.0
// Reads the file of a recording (docs/RECORDINGS.md) piece by piece, also while it is written.

const MAGIC = "SVCONREC";
const FOOTER_MAGIC = "SVCONEND";
const FOOTER_BYTES = 28;
const HEAD_BYTES = 11;
const KEYFRAME_BYTES = 38;
const KEY_CHECK_FRAME = 0xffffffff;
const PIECE_BYTES = 256 * 1024;
const CACHED_PIECES = 64;
const VERSION = 1;

export const Kind = { SERVER: 1, KEYFRAME: 2, EVENT: 3, END: 4 };

export class RecordingError extends Error {}

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(parts, start) {
  let value = ~start;
  for (const part of parts) for (const byte of part) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
  return ~value >>> 0;
}

export function fromHex(digits) {
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const joined = (...parts) => new Uint8Array(parts.flatMap((part) => [...part]));
const text = (bytes) => String.fromCharCode(...bytes);

function placeIn(view, at) {
  return { number: view.getUint32(at), begin: Number(view.getBigUint64(at + 4)), offset: Number(view.getBigUint64(at + 12)) };
}

function keyframesIn(bytes) {
  const view = viewOf(bytes);
  const found = [];
  for (let at = 0; at + KEYFRAME_BYTES <= bytes.length; at += KEYFRAME_BYTES) {
    found.push({
      time: view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2),
      width: view.getUint16(at + 6),
      height: view.getUint16(at + 8),
      offset: Number(view.getBigUint64(at + 10)),
      place: placeIn(view, at + 18),
    });
  }
  return found;
}

export class RecordingFile {
  // `fetchPiece(offset)` returns {bytes, size}: at most 256 KiB from an offset on, and the size of the file now.
  constructor(fetchPiece, key) {
    this.fetchPiece = fetchPiece;
    this.key = key;
    this.pieces = new Map();
    this.size = 0;
    this.keyframes = [];
    this.duration = 0;
    this.ended = false;
  }

  // Return `count` bytes from an offset on; null when they are not there yet.
  async read(offset, count) {
    const output = new Uint8Array(count);
    for (let done = 0; done < count;) {
      const number = Math.floor((offset + done) / PIECE_BYTES);
      const skip = offset + done - number * PIECE_BYTES;
      const piece = await this.piece(number, skip + 1);
      const part = piece.subarray(skip, skip + count - done);
      if (!part.length) return null;
      output.set(part, done);
      done += part.length;
    }
    return output;
  }

  async piece(number, wanted) {
    const cached = this.pieces.get(number);
    if (cached && cached.length >= wanted) return cached;
    const { bytes, size } = await this.fetchPiece(number * PIECE_BYTES);
    this.size = size;
    this.pieces.delete(number);
    this.pieces.set(number, bytes);
    if (this.pieces.size > CACHED_PIECES) this.pieces.delete(this.pieces.keys().next().value);
    return bytes;
  }

  async open() {
    const fixed = await this.read(0, 13);
    if (!fixed || text(fixed.subarray(0, 8)) !== MAGIC || fixed[8] !== VERSION) {
      throw new RecordingError("This is not a recording that this page can play.");
    }
    const length = viewOf(fixed).getUint32(9);
    const data = await this.read(0, 13 + length + 4);
    if (!data || crc32([data.subarray(0, -4)], 0) !== viewOf(data).getUint32(13 + length)) {
      throw new RecordingError("The recording is damaged.");
    }
    this.about = JSON.parse(new TextDecoder().decode(data.subarray(13, 13 + length)));
    this.headerBytes = data;
    this.salt = fromHex(this.about.salt);
    this.overhead = 4;
    let begin = data.length;
    if (this.about.cipher) {
      if (!globalThis.crypto?.subtle) throw new RecordingError("Encrypted recordings are played over HTTPS only.");
      this.cipher = await crypto.subtle.importKey("raw", fromHex(this.key ?? ""), "AES-GCM", false, ["decrypt"]);
      this.overhead = 16;
      const check = await this.read(begin, 16);
      if (!check || !(await this.decrypted(KEY_CHECK_FRAME, new Uint8Array(), check))) {
        throw new RecordingError("The recording was encrypted with another key.");
      }
      begin += 16;
    }
    this.first = { number: 0, begin, offset: 0 };
    this.next = this.first;
    if (!(await this.openByIndex())) await this.scan();
  }

  // A recording that ended well has an index of its keyframes at its end.
  async openByIndex() {
    const footer = this.size >= FOOTER_BYTES ? await this.read(this.size - FOOTER_BYTES, FOOTER_BYTES) : null;
    if (!footer || text(footer.subarray(0, 8)) !== FOOTER_MAGIC) return false;
    const last = await this.frame(placeIn(viewOf(footer), 8));
    if (last?.kind !== Kind.END) return false;
    this.keyframes = keyframesIn(last.content);
    this.duration = last.time;
    this.next = last.after;
    this.ended = true;
    return true;
  }

  // Find the keyframes of what was stored since.
  async scan() {
    while (!this.ended) {
      const frame = await this.frame(this.next);
      if (!frame) return;
      if (frame.kind === Kind.KEYFRAME) this.keyframes.push(...keyframesIn(frame.content));
      this.ended = frame.kind === Kind.END;
      this.duration = frame.time;
      this.next = frame.after;
    }
  }

  // Return the frame at a place; null when it is incomplete or damaged.
  async frame(place) {
    const head = await this.read(place.begin, HEAD_BYTES);
    if (!head) return null;
    const view = viewOf(head);
    const length = view.getUint32(7);
    if (length > 1 << 20) return null;
    const rest = await this.read(place.begin + HEAD_BYTES, length + this.overhead);
    if (!rest) return null;
    const content = await this.content(place.number, head, rest);
    if (!content) return null;
    const kind = head[0];
    const begin = place.begin + HEAD_BYTES + length + this.overhead;
    const after = { number: place.number + 1, begin, offset: place.offset + (kind === Kind.SERVER ? length : 0) };
    return { kind, time: view.getUint16(1) * 2 ** 32 + view.getUint32(3), content, after };
  }

  async content(number, head, rest) {
    if (this.cipher) return this.decrypted(number, head, rest);
    const content = rest.subarray(0, -4);
    return crc32([head, content], number) === viewOf(rest).getUint32(content.length) ? content : null;
  }

  async decrypted(number, head, rest) {
    const iv = new Uint8Array(12);
    iv.set(this.salt);
    viewOf(iv).setUint32(8, number);
    const algorithm = { name: "AES-GCM", iv, additionalData: joined(this.headerBytes, head) };
    try {
      return new Uint8Array(await crypto.subtle.decrypt(algorithm, this.cipher, rest));
    } catch {
      return null;
    }
  }

  // Return where playing begins for a time: {place, skip, width, height}.
  start(time) {
    const found = this.keyframes.findLast((keyframe) => keyframe.time <= time);
    if (!found) return { place: this.first, skip: 0, width: this.about.width, height: this.about.height };
    return { place: found.place, skip: found.offset - found.place.offset, width: found.width, height: found.height };
  }
}
