// Where the time goes from the opening of the page that watches to its first picture. Also a program:
//   node opening.mjs URL [OPENINGS]
import { launch } from './browser.mjs';
import { quantile } from './tap.mjs';
import { pathToFileURL } from 'node:url';

const LATE_MS = 20000;
// A new window's own start-up (its bars are pages, too) is not the page's time.
const SETTLE_MS = 1000;

/** What is noted of each opening, in order; all in ms since the navigation began. */
export const STEPS = ['peer', 'offer', 'post', 'answer', 'ice', 'dtls', 'received', 'frame'];

// Runs in the page before its own scripts.
function noteSteps() {
  const marks = {};
  const mark = (name) => { marks[name] ??= performance.now(); };
  globalThis.opening = marks;
  const native = globalThis.fetch;
  globalThis.fetch = async (...args) => {
    if (args[1]?.method !== 'POST') return native(...args);
    mark('post');
    const response = await native(...args);
    mark('answer');
    return response;
  };
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      mark('peer');
      this.addEventListener('iceconnectionstatechange', () => {
        if (/connected|completed/.test(this.iceConnectionState)) mark('ice');
      });
      this.addEventListener('connectionstatechange', () => { if (this.connectionState === 'connected') mark('dtls'); });
    }

    async setLocalDescription(...args) {
      mark('offer');
      return super.setLocalDescription(...args);
    }
  };
  addEventListener('DOMContentLoaded', () => {
    document.querySelector('video').requestVideoFrameCallback((now, frame) => {
      mark('frame');
      marks.received = frame.receiveTime; // its last packet
    });
  });
}

/** Opens `url`, a page that watches, in a window of its own and an empty cache; resolves to the steps' times. */
export async function opening(browser, url) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    await context.addInitScript(noteSteps);
    const page = await context.newPage();
    await page.waitForTimeout(SETTLE_MS);
    await page.goto(url, { waitUntil: 'commit' });
    await page.waitForFunction(() => globalThis.opening?.frame, null, { timeout: LATE_MS });
    return await page.evaluate(() => globalThis.opening);
  } finally {
    await context.close();
  }
}

/** Opens `url` so many times; `told` hears of each. Resolves to the times of the first pictures. */
export async function openings(browser, url, count, told) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const seen = await opening(browser, url);
    told(STEPS.map((step) => `${step} ${Math.round(seen[step])}`).join(', '));
    times.push(seen.frame);
  }
  return times;
}

export const openingText = (times) =>
  `median ${Math.round(quantile(times, 0.5))} ms, max ${Math.round(Math.max(...times))} ms of ${times.length}`;

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, count = '10'] = process.argv.slice(2);
  const browser = await launch();
  const times = await openings(browser, url, Number(count), console.log);
  await browser.close();
  console.log(`first picture: ${openingText(times)}`);
}
