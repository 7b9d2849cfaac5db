// Gaps in what a viewer receives, second by second for the last minute, and changes of the node
// that sends. Frames give the time between two arrivals to the millisecond; packet statistics,
// polled, see what frames cannot: a silence that lasts, and streams without a picture.
// Limits: a gap in sound alone is seen only from LONG_MS up.

export const SECONDS = 60;
const LONG_MS = 300; // a silence of all packets that is noted while it still lasts

export class Gaps {
  constructor(now = performance.now()) {
    this.bars = []; // { second, worst, moved }, oldest first
    this.lastFrame = null;
    this.usual = null; // running mean of the time between frames
    this.last = null; // the newest gap out of the ordinary: { ms, at }
    this.from = null;
    this.moves = 0;
    this.movedAt = null;
    this.started = now;
  }

  bar(now) {
    const second = Math.floor(now / 1000);
    let bar = this.bars.at(-1);
    if (!bar || bar.second !== second) {
      bar = { second, worst: 0, moved: false };
      this.bars.push(bar);
      while (this.bars[0].second <= second - SECONDS) this.bars.shift();
    }
    return bar;
  }

  note(ms, now) {
    const bar = this.bar(now);
    bar.worst = Math.max(bar.worst, ms);
    if (this.usual !== null && ms > Math.max(3 * this.usual, this.usual + 100)) {
      // One silence seen several times while it lasts is one gap.
      const same = this.last && now - this.last.at < ms;
      this.last = { ms: same ? Math.max(ms, this.last.ms) : ms, at: now };
    }
  }

  /** A frame arrived at `at` (ms); `skipped` frames before it were not shown to us. */
  frame(at, skipped) {
    if (this.lastFrame !== null && at > this.lastFrame) {
      const ms = (at - this.lastFrame) / (1 + skipped);
      this.note(ms, at);
      this.usual = this.usual === null ? ms : this.usual + (Math.min(ms, 4 * this.usual) - this.usual) / 32;
    }
    this.lastFrame = at;
  }

  /** Packet statistics: ms since any packet came; and the node that sends, null while unknown. */
  poll(silence, from, now) {
    if (silence > LONG_MS) this.note(silence, now);
    if (from && this.from && from !== this.from) {
      this.moves++;
      this.movedAt = now;
      this.bar(now).moved = true;
    }
    if (from) this.from = from;
  }

  /** The longest wait between two frames or packets of the last minute, in ms. */
  worst(now) {
    const oldest = Math.floor(now / 1000) - SECONDS;
    return this.bars.reduce((most, bar) => (bar.second > oldest ? Math.max(most, bar.worst) : most), 0);
  }

  /** Draws the last minute; the style gives the colours by custom properties. */
  draw(canvas, now) {
    const scale = globalThis.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const style = getComputedStyle(canvas);
    const colour = (property) => style.getPropertyValue(property).trim();
    const context = canvas.getContext('2d');
    context.clearRect(0, 0, width, height);
    const step = width / SECONDS;
    const current = Math.floor(now / 1000);
    for (let i = 0; i < SECONDS; i++) {
      const bar = this.bars.find((b) => b.second === current - (SECONDS - 1 - i));
      const left = i * step;
      // From 10 ms at the bottom to 10 s at the top, on a logarithmic scale.
      const part = bar?.worst ? Math.min(1, Math.max(0.06, Math.log10(bar.worst / 10) / 3)) : 0.03;
      const kind = !bar ? '--line' : bar.worst < 150 ? '--good' : bar.worst < 1000 ? '--warn' : '--bad';
      context.fillStyle = colour(kind);
      context.fillRect(left + step * 0.15, height * (1 - part), step * 0.7, height * part);
      if (bar?.moved) {
        context.fillStyle = colour('--accent');
        context.fillRect(left + step / 2 - scale, 0, 2 * scale, height);
      }
    }
  }
}
