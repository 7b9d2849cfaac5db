// A pair of nodes, a and b, with browsers: a planned move, the death of a node, its return. `pair`
// has started the nodes; HL_READY is their ready object. With --long a node dies again after a minute,
// when browsers have forgotten a silent candidate pair, and everybody goes on for five more.
// With --apart the nodes share no subnet, so addresses do not move: a dies, and is then cut off for good.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { launch } from './browser.mjs';
import { sleep, until } from './node.mjs';
import { finish, note, ok } from './tap.mjs';
import { measure, publish, RATE, watch } from './watch.mjs';

const run = promisify(execFile);
const [a, b] = JSON.parse(process.env.HL_READY).nodes;
const FROZEN_S = 0.2; // of a viewer while a node dies and its publisher's address moves, detection included
const TOLD_MS = 22000; // a page asks every 19 s at the latest
// Without a shared subnet the publisher's media is away until its node is back, or until its browser has
// changed its way, which libwebrtc does when nothing has come for 2.5 s.
const BACK_S = 2.5;
const CUT_S = 7;
const LONG = process.argv.includes('--long');
const APART = process.argv.includes('--apart');
const stream = 'e2e-pair';

async function ctl(node, ...command) {
  const { stdout } = await run(process.env.HL_CTL, ['-s', node.control, '-j', ...command]);
  return JSON.parse(stdout);
}

/** Whether `node` serves the sessions that began at `home`. */
async function serves(node, home) {
  try {
    const { groups } = await ctl(node, 'show', 'groups');
    return groups.some((group) => group.home === home.name && group.role === 'active');
  } catch {
    return false; // its control plane is away
  }
}

async function connected(node) {
  try {
    const { peers } = await ctl(node, 'show', 'peers');
    return peers.some(({ kind, state, bfd }) => kind === 'partner' && state === 'connected' && bfd === 'up');
  } catch {
    return false;
  }
}

async function sessions(node) {
  return (await ctl(node, 'show', 'sessions', stream)).sessions;
}

/** Notes every state that the page's connection goes through from now on. */
const mark = (page) => page.evaluate(() => {
  const { pc } = globalThis.hitless.link;
  pc.marked = [pc.iceConnectionState];
  pc.addEventListener('iceconnectionstatechange', () => pc.marked.push(pc.iceConnectionState));
});
const states = (page) => page.evaluate(() => globalThis.hitless.link.pc?.marked ?? ['another connection']);

async function unmoved(label, pages) {
  for (const [i, page] of pages.entries()) {
    const seen = await states(page);
    ok(seen.every((state) => ['connected', 'completed'].includes(state)),
      `${label}: page ${i + 1} stays connected`, seen.join(' '));
  }
}

/** Everybody home: a serves its own again, and both are well. */
async function home() {
  await until('the nodes are connected', 30000, async () => (await connected(a)) && connected(b));
  if (!(await serves(a, a))) await ctl(b, 'failback');
  await until('a serves its own sessions', 10000, () => serves(a, a));
}

async function planned(label, order, done, { pages, viewers }) {
  const seen = await measure(viewers, { seconds: 6, meanwhile: async () => {
    await sleep(1000);
    await order();
    await until(label, 4000, done);
  } });
  for (const [i, { lost, packets, frozen, moves }] of seen.viewers.entries()) {
    ok(lost === 0 && packets > 0, `${label}: viewer ${i + 1} misses no packet`, `${lost} of ${packets}`);
    ok(moves, `${label}: viewer ${i + 1} sees the picture move`, `frozen for ${frozen.toFixed(2)} s`);
  }
  await unmoved(label, pages);
}

/**
 * The panel tells who sends; `names` in the order of the viewers. A move that leaves the address and
 * loses nothing gives a page no sign: it learns of it when it asks anyway (sender.js).
 */
async function named(label, names, viewers) {
  for (const [i, page] of viewers.entries()) {
    const right = await page.waitForFunction((name) =>
      document.getElementById('from').textContent.startsWith(`${name}, `), names[i], { timeout: TOLD_MS })
      .then(() => true, () => false);
    ok(right, `${label}: page ${i + 1} says that ${names[i]} sends`, await page.innerText('#from'));
  }
}

const die = () => ctl(a, 'kill-test', 'node');

async function cut() {
  for (const link of ['hitless-a', 'hitless-a-c']) await run('ip', ['link', 'set', link, 'down']);
}

async function killed(label, { pages, viewers }, { longest = FROZEN_S, how = die } = {}) {
  // No longer than it takes: a browser that is short of CPU stutters at other times, too.
  const seen = await measure(viewers, { seconds: longest + 3, meanwhile: async () => {
    await how();
    await until('b takes over', 3000, () => serves(b, a));
  } });
  for (const [i, { frozen, freezes, packets, lost, fps }] of seen.viewers.entries()) {
    const added = frozen - freezes / RATE; // a freeze is counted from the picture before it
    ok(added <= longest, `${label}: viewer ${i + 1} is frozen for ${longest} s at most`,
      `${added.toFixed(2)} s, ${lost} of ${packets} lost, ${fps.toFixed(1)} fps`);
    ok(packets > 100, `${label}: viewer ${i + 1} goes on`, `${packets} packets`);
  }
  await named(label, ['b', 'b'], viewers);
  await unmoved(label, pages);
}

/** Whoever comes to a, while b has its address, is sent to b. */
async function sentOver() {
  const page = await watch(browser, { stream, base: a.http });
  const resource = await page.evaluate(() => globalThis.hitless.link.resource);
  ok((await sessions(b)).length === 4 && !resource.startsWith(new URL(a.http).origin), 'who comes to a plays at b', resource);
  await page.context().close();
}

/** a comes back as standby and gets its sessions again. */
async function back(label, everyone) {
  note('a returns');
  await until('a is back', 30000, async () => (await connected(a)) && connected(b));
  if (!APART) await sentOver();
  await planned(label, () => ctl(b, 'failback'), () => serves(a, a), everyone);
}

async function old({ pages, viewers }) {
  note('a minute goes by');
  await sleep(60000);
  await killed('node killed after a minute', { pages, viewers });
  const seen = await measure(viewers, { seconds: 300 });
  for (const [i, { fps, lost, packets, frozen }] of seen.viewers.entries()) {
    ok(fps > 10, `viewer ${i + 1} still plays five minutes later`,
      `${fps.toFixed(1)} fps, ${lost} of ${packets} lost, frozen ${frozen.toFixed(2)} s`);
  }
  await unmoved('five minutes later', pages);
}

async function together(everyone) {
  const { viewers } = everyone;
  let drained;
  await planned('drain', async () => { drained = await ctl(a, 'drain'); }, () => serves(b, a), everyone);
  ok(drained.left === 0 && drained.unprotected === 0, 'drain: ends when nothing is left',
    `${drained.left} and ${drained.unprotected}`);
  await named('drain', ['b', 'b'], viewers);
  await planned('failback', () => ctl(a, 'failback'), () => serves(a, a), everyone);
  await named('failback', ['a', 'b'], viewers);
  await killed('node killed', everyone);
  await back('failback after a death', everyone);
  if (LONG) await old(everyone);
}

async function apart(everyone) {
  await killed('apart, node killed', everyone, { longest: BACK_S });
  await back('apart, failback', everyone);
  await named('apart, failback', ['a', 'b'], everyone.viewers);
  await killed('apart, node cut off', everyone, { longest: CUT_S, how: cut });
}

const browser = await launch();
let good = false;
try {
  await home();
  const publisher = await publish(browser, { stream, codec: 'vp8', base: a.http });
  await until('b knows the stream', 5000, async () =>
    (await ctl(b, 'show', 'streams')).streams.some(({ name, live }) => name === stream && live));
  const viewers = [
    await watch(browser, { stream, base: a.http }),
    await watch(browser, { stream, base: b.http }),
  ];
  const pages = [publisher, ...viewers];
  await Promise.all(pages.map(mark));
  const everyone = { pages, viewers };

  const [here, there] = [await sessions(a), await sessions(b)];
  ok(here.length === 3 && there.length === 3, 'both nodes know every session', `${here.length} and ${there.length}`);
  ok(here.filter(({ protection }) => protection === 'active').length === 2
    && there.filter(({ protection }) => protection === 'active').length === 1, 'each serves its own');

  await named('at first', ['a', 'b'], viewers);
  await (APART ? apart : together)(everyone);
  good = true;
} finally {
  await browser.close();
  good = finish() && good;
}
process.exit(good ? 0 : 1);
