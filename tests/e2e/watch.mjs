// What the scenarios do with our pages: publish, watch, and measure over a stretch of time.
import { open } from './browser.mjs';
import { watchOthers } from './load.mjs';
import { base4, sleep, token } from './node.mjs';
import { note, quantile } from './tap.mjs';

export const SIZE = '320x180';
export const RATE = 20;
// Of the time: browsers that share two CPUs with all the rest, and those with other guests of a host,
// stutter by themselves. What the appliance can do to a picture shows in packets that are missing.
const STILL = 0.2;

/** Opens the page that publishes and goes on the air. */
export async function publish(browser, { stream, codec, source = 'test', base = base4 }) {
  const query = new URLSearchParams({ stream, codec, source, size: SIZE, rate: RATE, kbits: 400, autostart: 1 });
  const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
  await context.addInitScript((value) => sessionStorage.setItem('hitless.token', value), token);
  const page = await open(context, `${base}/publish?${query}`);
  try {
    await page.waitForFunction(() => globalThis.hitless?.view.state === 'live', null, { timeout: 40000 });
  } catch {
    throw new Error(`publishing failed: ${await page.textContent('#alert')} ${page.faults.join('; ')}`);
  }
  return page;
}

/** Opens the page that watches and waits for its first picture. */
export async function watch(browser, { stream, base = base4, options = {} }) {
  const context = await browser.newContext({ viewport: { width: 640, height: 480 }, ...options });
  const page = await open(context, `${base}/?stream=${stream}`);
  try {
    await page.waitForFunction(() => globalThis.hitless?.view.first > 0, null, { timeout: 40000 });
  } catch {
    throw new Error(`no picture: ${await page.textContent('#poster')} ${page.faults.join('; ')}`);
  }
  return page;
}

/** Begins to read the clock from every third picture that the page shows. */
function probe(page) {
  return page.evaluate(() => {
    const ages = [];
    const video = document.querySelector('video');
    let count = 0;
    const look = () => {
      video.requestVideoFrameCallback(look);
      if (count++ % 3) return;
      const age = globalThis.hitless.clock.age(video);
      if (age !== null) ages.push(age);
    };
    look();
    globalThis.probe = { ages };
  });
}

function received(page) {
  return page.evaluate(async () => {
    const all = [...(await globalThis.hitless.link.pc.getStats()).values()];
    const of = (kind) => all.find((s) => s.type === 'inbound-rtp' && s.kind === kind) ?? {};
    const video = of('video');
    const audio = of('audio');
    return {
      at: video.timestamp,
      decoded: video.framesDecoded ?? 0,
      freezes: video.freezeCount ?? 0,
      frozen: video.totalFreezesDuration ?? 0,
      lost: (video.packetsLost ?? 0) + (audio.packetsLost ?? 0),
      packets: (video.packetsReceived ?? 0) + (audio.packetsReceived ?? 0),
      energy: audio.totalAudioEnergy ?? 0,
      codec: all.find((s) => s.id === video.codecId)?.mimeType ?? '',
      from: globalThis.hitless.view.stats?.path.from ?? '',
    };
  });
}

function sent(page) {
  return page.evaluate(async () => {
    const all = [...(await globalThis.hitless.link.pc.getStats()).values()];
    const video = all.find((s) => s.type === 'outbound-rtp' && s.kind === 'video');
    return { at: video.timestamp, frames: video.framesSent };
  });
}

const minus = (after, before) => Object.fromEntries(Object.entries(after).map(([key, value]) =>
  [key, typeof value === 'number' ? value - before[key] : value]));

/**
 * Measures viewers (pages) over `seconds`, and the publisher's frame rate where there is one; `meanwhile` runs
 * in that time. Returns { rate, viewers: [{ fps, ages, moves, ... }] } with the differences over that time.
 */
export async function measure(viewers, { publisher = null, seconds = 20, meanwhile = null } = {}) {
  await Promise.all(viewers.map(probe));
  const others = watchOthers();
  const before = await Promise.all(viewers.map(received));
  const sentBefore = publisher && await sent(publisher);
  await Promise.all([sleep(1000 * seconds), meanwhile?.()]);
  const after = await Promise.all(viewers.map(received));
  const out = publisher && minus(await sent(publisher), sentBefore);
  note(others());
  const ages = await Promise.all(viewers.map((page) => page.evaluate(() => globalThis.probe.ages)));
  return {
    rate: out ? (1000 * out.frames) / out.at : null,
    viewers: after.map((now, i) => {
      const change = minus(now, before[i]);
      return { ...change, fps: (1000 * change.decoded) / change.at, moves: change.frozen < STILL * seconds, ages: ages[i] };
    }),
  };
}

export const latencyText = (ages) => (ages.length
  ? `median ${quantile(ages, 0.5)} ms, p95 ${quantile(ages, 0.95)} ms, ${ages.length} readings` : 'no clock');
