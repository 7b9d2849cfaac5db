// The clock in the test picture: 32 bits of milliseconds and a CRC as 40 black or white cells in a
// strip along the top edge, so that whoever sees the picture knows when it was drawn. Publisher and
// viewer compare wall clocks: the figure is as true as their clocks are equal.
// Limits: wraps after 49 days; needs a picture of 160 pixels or more in width to survive a codec.

const TIME_BITS = 32;
const CELLS = TIME_BITS + 8;
const SAMPLE_WIDTH = CELLS * 8; // the reader scales the strip to this
const SAMPLE_HEIGHT = 8;
const MIN_CONTRAST = 32; // how far from mid-grey every cell must be to count

/** Height in pixels of the strip in a picture of that width. */
export function stripHeight(width) {
  return Math.max(8, Math.round(width / 20));
}

/** CRC-8 (polynomial 0x07, initial value 0xff) of a 32-bit number, most significant byte first. */
function crc8(value) {
  let crc = 0xff;
  for (let shift = 24; shift >= 0; shift -= 8) {
    crc ^= (value >>> shift) & 0xff;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** Draws the strip for `now` (milliseconds since the epoch) across a canvas of that width. */
export function drawClock(context, width, now) {
  const time = now % 2 ** TIME_BITS >>> 0;
  const height = stripHeight(width);
  const bits = [];
  for (let i = TIME_BITS - 1; i >= 0; i--) bits.push((time >>> i) & 1);
  const crc = crc8(time);
  for (let i = 7; i >= 0; i--) bits.push((crc >>> i) & 1);
  bits.forEach((bit, i) => {
    const left = Math.round((i * width) / CELLS);
    context.fillStyle = bit ? '#fff' : '#000';
    context.fillRect(left, 0, Math.round(((i + 1) * width) / CELLS) - left, height);
  });
}

/** Decodes RGBA pixels of a strip scaled to SAMPLE_WIDTH x SAMPLE_HEIGHT; null if it is no clock. */
export function decodeClock(pixels) {
  let time = 0;
  let crc = 0;
  for (let cell = 0; cell < CELLS; cell++) {
    let sum = 0;
    for (let y = 2; y < 6; y++) {
      for (let x = 2; x < 6; x++) sum += pixels[4 * (y * SAMPLE_WIDTH + cell * 8 + x) + 1];
    }
    const level = sum / 16 - 128;
    if (Math.abs(level) < MIN_CONTRAST) return null;
    const bit = level > 0 ? 1 : 0;
    if (cell < TIME_BITS) time = ((time << 1) | bit) >>> 0;
    else crc = (crc << 1) | bit;
  }
  return crc === crc8(time) ? time : null;
}

/** Reads clocks from video elements or canvases. */
export class ClockReader {
  constructor() {
    const canvas = document.createElement('canvas');
    canvas.width = SAMPLE_WIDTH;
    canvas.height = SAMPLE_HEIGHT;
    this.context = canvas.getContext('2d', { willReadFrequently: true });
  }

  /**
   * Age in milliseconds, at `now`, of the picture that `source` shows; null if it carries no clock
   * or one that is not within a minute of ours.
   */
  age(source, now = Date.now()) {
    const width = source.videoWidth ?? source.width;
    if (!width) return null;
    this.context.drawImage(source, 0, 0, width, stripHeight(width), 0, 0, SAMPLE_WIDTH, SAMPLE_HEIGHT);
    const time = decodeClock(this.context.getImageData(0, 0, SAMPLE_WIDTH, SAMPLE_HEIGHT).data);
    if (time === null) return null;
    const age = ((now % 2 ** TIME_BITS) - time) | 0;
    return age >= -1000 && age <= 60000 ? age : null;
  }
}
