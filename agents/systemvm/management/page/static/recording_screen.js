// SPDX-License-Identifier: Apache-2.0
// Draws the server's bytes of a recording on a canvas. There are no zlib streams in a recording, so each rectangle
// is drawn by itself.

import { RecordingError } from "./recording_file.js";

const Encoding = {
  RAW: 0, COPY_RECT: 1, RRE: 2, HEXTILE: 5, DESKTOP_SIZE: -223, LAST_RECT: -224, CURSOR: -239, POINTER_TYPE: -257,
  QEMU_KEYS: -258, TIGHT_PNG: -260, LED_STATE: -261, NAME: -307, EXTENDED_DESKTOP_SIZE: -308, VMWARE_CURSOR: 0x574d5664,
};
const TILE = 16;

class Incomplete extends Error {}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  take(count) {
    if (this.bytes.length - this.at < count) throw new Incomplete();
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  u8() { return this.take(1)[0]; }
  u16() { this.take(2); return this.view.getUint16(this.at - 2); }
  u32() { this.take(4); return this.view.getUint32(this.at - 4); }
  i32() { this.take(4); return this.view.getInt32(this.at - 4); }
}

export class RecordingScreen {
  constructor(canvas, width, height, format) {
    const [bits, , bigEndian, trueColour] = format;
    const shifts = [...format.subarray(10, 13)];
    if (bits !== 32 || !trueColour || shifts.some((shift) => shift % 8)) {
      throw new RecordingError("The pixels of this recording have a format that this page cannot draw.");
    }
    this.places = shifts.map((shift) => (bigEndian ? 3 - shift / 8 : shift / 8));
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.rest = new Uint8Array();
    this.rectangles = 0;
    this.resize(width, height);
  }

  resize(width, height) {
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
  }

  // What follows the bytes so far is missing: the next ones begin another message.
  skip() {
    this.rest = new Uint8Array();
    this.rectangles = 0;
  }

  async feed(bytes) {
    if (this.rest.length) {
      const both = new Uint8Array(this.rest.length + bytes.length);
      both.set(this.rest);
      both.set(bytes, this.rest.length);
      this.rest = both;
    } else {
      this.rest = bytes;
    }
    const reader = new Reader(this.rest);
    let done = 0;
    try {
      while (done < this.rest.length) {
        if (this.rectangles) await this.rectangle(reader);
        else this.message(reader);
        done = reader.at;
      }
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error;
    }
    this.rest = this.rest.slice(done);
  }

  message(reader) {
    const kind = reader.u8();
    switch (kind) {
      case 0: reader.take(1); this.rectangles = reader.u16(); break;
      case 1: reader.take(3); reader.take(6 * reader.u16()); break;
      case 2: case 150: break;
      case 3: reader.take(3); reader.take(Math.abs(reader.i32())); break;
      case 248: reader.take(7); reader.take(reader.u8()); break;
      case 250: reader.take(3); break;
      default: throw new RecordingError(`The recording has an unknown message: ${kind}`);
    }
  }

  async rectangle(reader) {
    const [x, y, width, height] = [reader.u16(), reader.u16(), reader.u16(), reader.u16()];
    const encoding = reader.i32();
    switch (encoding) {
      case Encoding.RAW: this.put(x, y, this.pixels(reader, width, height)); break;
      case Encoding.COPY_RECT: {
        const [left, top] = [reader.u16(), reader.u16()];
        if (width && height) this.put(x, y, this.context.getImageData(left, top, width, height));
        break;
      }
      case Encoding.RRE: this.rre(reader, x, y, width, height); break;
      case Encoding.HEXTILE: this.hextile(reader, x, y, width, height); break;
      case Encoding.TIGHT_PNG: await this.tightPng(reader, x, y, width, height); break;
      default: this.state(reader, y, width, height, encoding);
    }
    this.rectangles = encoding === Encoding.LAST_RECT ? 0 : this.rectangles - 1;
  }

  state(reader, y, width, height, encoding) {
    switch (encoding) {
      case Encoding.CURSOR: reader.take(4 * width * height + Math.floor((width + 7) / 8) * height); break;
      case Encoding.VMWARE_CURSOR: reader.take((reader.u16() >> 8 ? 1 : 2) * 4 * width * height); break;
      case Encoding.NAME: reader.take(reader.u32()); break;
      case Encoding.LED_STATE: reader.take(1); break;
      case Encoding.EXTENDED_DESKTOP_SIZE: {
        const screens = reader.u8();
        reader.take(3 + 16 * screens);
        if (y === 0) this.resize(width, height);
        break;
      }
      case Encoding.DESKTOP_SIZE: this.resize(width, height); break;
      case Encoding.LAST_RECT: case Encoding.POINTER_TYPE: case Encoding.QEMU_KEYS: break;
      default: throw new RecordingError(`The recording has an unknown encoding: ${encoding}`);
    }
  }

  put(x, y, image) {
    if (image) this.context.putImageData(image, x, y);
  }

  fill(colour, x, y, width, height) {
    this.context.fillStyle = `rgb(${colour.join(",")})`;
    this.context.fillRect(x, y, width, height);
  }

  colour(reader) {
    const pixel = reader.take(4);
    return this.places.map((place) => pixel[place]);
  }

  pixels(reader, width, height) {
    const source = reader.take(4 * width * height);
    if (!width || !height) return null;
    const image = this.context.createImageData(width, height);
    const [red, green, blue] = this.places;
    const { data } = image;
    for (let at = 0; at < source.length; at += 4) {
      data[at] = source[at + red];
      data[at + 1] = source[at + green];
      data[at + 2] = source[at + blue];
      data[at + 3] = 255;
    }
    return image;
  }

  rre(reader, x, y, width, height) {
    const count = reader.u32();
    const rest = new Reader(reader.take(4 + 12 * count));
    this.fill(this.colour(rest), x, y, width, height);
    for (let part = 0; part < count; part += 1) {
      const colour = this.colour(rest);
      this.fill(colour, x + rest.u16(), y + rest.u16(), rest.u16(), rest.u16());
    }
  }

  // All of a rectangle is read before any of it is drawn: its rest can be missing.
  hextile(reader, x, y, width, height) {
    const draws = [];
    let back = [0, 0, 0];
    let front = back;
    for (let top = 0; top < height; top += TILE) {
      for (let left = 0; left < width; left += TILE) {
        const [across, down] = [Math.min(TILE, width - left), Math.min(TILE, height - top)];
        const [tileX, tileY] = [x + left, y + top];
        const mask = reader.u8();
        if (mask & 1) {
          const image = this.pixels(reader, across, down);
          draws.push(() => this.put(tileX, tileY, image));
          continue;
        }
        if (mask & 2) back = this.colour(reader);
        if (mask & 4) front = this.colour(reader);
        const ground = back;
        draws.push(() => this.fill(ground, tileX, tileY, across, down));
        for (let parts = mask & 8 ? reader.u8() : 0; parts > 0; parts -= 1) {
          const colour = mask & 16 ? this.colour(reader) : front;
          const [place, extent] = [reader.u8(), reader.u8()];
          draws.push(() => this.fill(colour, tileX + (place >> 4), tileY + (place & 15), (extent >> 4) + 1, (extent & 15) + 1));
        }
      }
    }
    for (const draw of draws) draw();
  }

  async tightPng(reader, x, y, width, height) {
    const kind = reader.u8() >> 4;
    if (kind === 8) {
      this.fill([...reader.take(3)], x, y, width, height);
      return;
    }
    if (kind !== 9 && kind !== 10) throw new RecordingError(`The recording has an unknown compression: ${kind}`);
    let length = 0;
    for (const shift of [0, 7, 14]) {
      const byte = reader.u8();
      length |= (shift === 14 ? byte : byte & 127) << shift;
      if (!(byte & 128)) break;
    }
    const type = kind === 9 ? "image/jpeg" : "image/png";
    const picture = await createImageBitmap(new Blob([reader.take(length)], { type }), { colorSpaceConversion: "none" });
    this.context.drawImage(picture, x, y);
    picture.close();
  }
}
