// Crashes on one node, while browsers publish and watch: the control plane, the dataplane and both
// are killed and started again, and nobody renegotiates. `run` has built the network and started
// the node; whatever is killed here is started again here, and ends with this script.
// Environment: as ./run sets it; HL_PREFIX, of the namespaces' names (hl).
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import { launch } from './browser.mjs';
import { base4, ctl, sleep, until } from './node.mjs';
import { finish, note, ok } from './tap.mjs';
import { measure, publish, watch } from './watch.mjs';

const prefix = process.env.HL_PREFIX ?? 'hl';
const SIGNALLING_MS = 2000; // from the death to the first answer for an old session
const MEDIA_MS = 1500; // from the dataplane's death to the next packet
const SETTLE_MS = 3000;
const stream = 'e2e-crash';

// --- the two processes ------------------------------------------------------------------------------

const started = new Map(); // name -> child that we started

function processOf(pid) {
  const argv = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  const netns = execFileSync('ip', ['netns', 'identify', String(pid)], { encoding: 'utf8' }).trim();
  return { pid, argv, netns };
}

/** What runs now: { controlplane, dataplane }. */
async function processes() {
  const status = await ctl('status');
  return { controlplane: processOf(status.controlplane.pid), dataplane: processOf(status.dataplane.pid) };
}

/** Starts a process again as it was. */
function again(name, { argv, netns }) {
  const log = process.env.HL_WORK ? fs.openSync(`${process.env.HL_WORK}/${name}.log`, 'a') : 'ignore';
  const [command, ...args] = netns ? ['ip', 'netns', 'exec', netns, ...argv] : argv;
  const child = spawn(command, args, { stdio: ['ignore', log, log], detached: true });
  child.unref();
  started.set(name, child);
}

const alive = (pid) => {
  try {
    return !/^State:\s+[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

const ready = () => until('the node is ready', 15000, async () => {
  try {
    return (await ctl('status')).state === 'ready';
  } catch {
    return false;
  }
});

function endAll() {
  for (const child of started.values()) {
    try {
      process.kill(child.pid, 'SIGTERM');
    } catch {
      // It has ended by itself.
    }
  }
}

// --- what pages do and see --------------------------------------------------------------------------

const resource = (page) => page.evaluate(() => globalThis.hitless.link.resource);

/** Marks the page's connection, so that another one in its place is seen. */
const mark = (page) => page.evaluate(() => { globalThis.hitless.link.pc.marked = true; });
const unchanged = (page) => page.evaluate(() => globalThis.hitless.link.pc?.marked === true);

/** Asks for `url` from the page until it answers as `wanted`; ms since `since` (Date.now()). */
function answered(page, url, method, wanted, since) {
  return page.evaluate(async ({ url, method, wanted, since }) => {
    const [, ufrag] = /a=ice-ufrag:(\S+)/.exec(globalThis.hitless.link.pc.localDescription.sdp);
    const [, pwd] = /a=ice-pwd:(\S+)/.exec(globalThis.hitless.link.pc.localDescription.sdp);
    const body = `a=ice-ufrag:${ufrag}\r\na=ice-pwd:${pwd}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n`
      + 'a=end-of-candidates\r\n';
    const headers = { 'Content-Type': 'application/trickle-ice-sdpfrag' };
    if (sessionStorage.getItem('hitless.token')) headers.Authorization = `Bearer ${sessionStorage.getItem('hitless.token')}`;
    let last = 'no answer';
    while (Date.now() - since < 10000) {
      try {
        const response = await fetch(url, method === 'PATCH' ? { method, headers, body } : { method, headers });
        if (response.status === wanted) return { ms: Date.now() - since, status: wanted };
        last = response.status;
      } catch {
        // Nobody listens.
      }
      await new Promise((done) => { setTimeout(done, 10); });
    }
    return { ms: NaN, status: last };
  }, { url, method, wanted, since });
}

/** Watches for `seconds` when packets come; resolves to the longest time without one, in ms. */
function longestSilence(page, seconds) {
  return page.evaluate(async (ms) => {
    const { pc } = globalThis.hitless.link;
    const end = performance.now() + ms;
    let packets = -1;
    let since = performance.now();
    let longest = 0;
    while (performance.now() < end) {
      const all = [...(await pc.getStats()).values()];
      const now = all.filter((s) => s.type === 'inbound-rtp').reduce((n, s) => n + s.packetsReceived, 0);
      if (now !== packets) since = performance.now();
      packets = now;
      longest = Math.max(longest, performance.now() - since);
      await new Promise((done) => { setTimeout(done, 10); });
    }
    return longest;
  }, 1000 * seconds);
}

/** The sessions of our stream by the first characters of their token, as operators see them. */
async function known() {
  const { sessions } = await ctl('show', 'sessions', stream);
  return sessions;
}

const idOf = (url) => url.split('/').at(-1);
const has = (sessions, url) => sessions.some(({ session }) => idOf(url).startsWith(session));

/** Checks that nobody noticed: no packet lost, no freeze, the same connections. */
async function judge(label, pages, { viewers }) {
  for (const [i, { lost, packets, frozen, moves }] of viewers.entries()) {
    ok(lost === 0 && packets > 0, `${label}: viewer ${i + 1} misses no packet`, `${lost} of ${packets}`);
    ok(moves, `${label}: viewer ${i + 1} sees the picture move`, `frozen for ${frozen.toFixed(2)} s`);
  }
  const same = await Promise.all(pages.map(unchanged));
  ok(same.every(Boolean), `${label}: nobody connects again`);
}

/** Checks that pictures come again at the published rate. */
async function flows(label, { publisher, viewers }) {
  const seen = await measure(viewers, { publisher, seconds: 5 });
  for (const [i, { lost, packets, fps }] of seen.viewers.entries()) {
    ok(lost === 0 && fps > 0.8 * seen.rate, `${label}: viewer ${i + 1} gets everything that is published`,
      `${lost} of ${packets} lost, ${fps.toFixed(1)} of ${seen.rate.toFixed(1)} fps`);
  }
  const same = await Promise.all([publisher, ...viewers].map(unchanged));
  ok(same.every(Boolean), `${label}: nobody connects again`);
}

// --- the scenarios ----------------------------------------------------------------------------------

/** The control plane dies by `signal`, stays away for `awayMs` and is started again. */
async function controlplaneOnce(signal, awayMs, url, { publisher, viewers }) {
  let patched;
  const seen = await measure(viewers, {
    publisher,
    seconds: 8 + awayMs / 1000,
    meanwhile: async () => {
      await sleep(1000);
      const { controlplane: old } = await processes();
      const since = Date.now();
      process.kill(old.pid, signal);
      await until('the control plane ends', 3000, () => !alive(old.pid));
      await sleep(awayMs);
      again('controlplane', old);
      patched = await answered(viewers[0], url, 'PATCH', 204, since);
    },
  });
  return { seen, patched, late: patched.ms - awayMs };
}

async function controlplane(label, signal, awayMs, { publisher, viewers }) {
  const urls = await Promise.all([publisher, ...viewers].map(resource));
  const { seen, patched, late } = await controlplaneOnce(signal, awayMs, urls[1], { publisher, viewers });
  await judge(label, [publisher, ...viewers], seen);
  ok(late <= SIGNALLING_MS, `${label}: an old session is patched within ${SIGNALLING_MS / 1000} s`,
    `status ${patched.status}, ${late} ms`);
  const sessions = await known();
  ok(urls.every((url) => has(sessions, url)), `${label}: every session is known again`,
    sessions.map(({ role, phase }) => `${role} ${phase}`).join(', '));
  const [{ live, viewers: count }] = (await ctl('show', 'streams')).streams.filter(({ name }) => name === stream);
  ok(live && count === viewers.length, `${label}: the stream is live with its viewers`, `${count}`);
}

/** A new viewer joins, and leaves by DELETE; another one, from before the crash, is deleted, too. */
async function signalling(label, browser, { publisher, viewers }) {
  const fresh = await watch(browser, { stream });
  ok(true, `${label}: a new viewer sees the picture`, `${Math.round(await fresh.evaluate(() => globalThis.hitless.view.first))} ms`);
  const gone = viewers.pop();
  const url = await resource(gone);
  // Its page must not come back by itself.
  await gone.evaluate(() => { globalThis.hitless.link.resource = null; });
  const { status } = await answered(publisher, url, 'DELETE', 200, Date.now());
  ok(status === 200, `${label}: DELETE ends an old session`, status);
  ok(!has(await known(), url), `${label}: and it is forgotten`);
  const twice = await answered(publisher, url, 'DELETE', 404, Date.now());
  ok(twice.status === 404, `${label}: a second DELETE finds nothing`, twice.status);
  await gone.context().close();
  viewers.push(fresh);
  await mark(fresh);
}

/** The dataplane dies and is started again: its sessions go on in their tables. */
async function dataplaneOnce({ publisher, viewers }) {
  const killed = async () => {
    await sleep(1000);
    const { dataplane: old } = await processes();
    const since = Date.now();
    process.kill(old.pid, 'SIGKILL');
    await sleep(100);
    const refused = await publisher.evaluate(async (url) => {
      const { status, headers } = await fetch(url, {
        method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: 'v=0\r\n',
      });
      return { status, retry: headers.get('Retry-After') };
    }, `${base4}/whep/${stream}`);
    again('dataplane', old);
    return { refused, away: Date.now() - since };
  };
  const [silence, { refused, away }] = await Promise.all([longestSilence(viewers[0], 6), killed()]);
  await ready();
  return { silence, refused, away };
}

async function dataplane({ publisher, viewers }) {
  const urls = await Promise.all([publisher, ...viewers].map(resource));
  const { silence, refused, away } = await dataplaneOnce({ publisher, viewers });
  ok(silence - away <= MEDIA_MS, `dataplane: packets come again within ${MEDIA_MS / 1000} s of its start`,
    `${Math.round(silence - away)} ms; it was away for ${away} ms`);
  ok(refused.status === 503 && refused.retry === '1', 'dataplane: a POST meanwhile gets 503 with Retry-After: 1',
    `${refused.status}, ${refused.retry}`);
  const same = await Promise.all([publisher, ...viewers].map(unchanged));
  ok(same.every(Boolean), 'dataplane: nobody connects again');
  await sleep(SETTLE_MS);
  const sessions = await known();
  ok(sessions.length === urls.length && urls.every((url) => has(sessions, url)),
    'dataplane: every session is kept, and no other', sessions.length);
  await flows('dataplane: afterwards', { publisher, viewers });
}

async function both({ publisher, viewers }) {
  const urls = await Promise.all([publisher, ...viewers].map(resource));
  const old = await processes();
  const since = Date.now();
  for (const { pid } of Object.values(old)) process.kill(pid, 'SIGKILL');
  await until('both end', 3000, () => !Object.values(old).some(({ pid }) => alive(pid)));
  for (const [name, one] of Object.entries(old)) again(name, one);
  const patched = await answered(viewers[0], urls[1], 'PATCH', 204, since);
  ok(patched.status === 204, 'both: an old session is patched', `${patched.ms} ms`);
  await ready();
  await sleep(SETTLE_MS);
  const sessions = await known();
  ok(sessions.length === urls.length && urls.every((url) => has(sessions, url)), 'both: every session is kept', sessions.length);
  await flows('both: afterwards', { publisher, viewers });
}

/** SIGQUIT is the end of all sessions: clients hear of it, and the next process knows none. */
async function quit({ viewers }) {
  const urls = await Promise.all(viewers.map(resource));
  const { controlplane: old } = await processes();
  const ended = viewers[0].evaluate(() => new Promise((done) => {
    const { transport } = globalThis.hitless.link.pc.getReceivers()[0];
    const begun = performance.now();
    const look = setInterval(() => {
      if (transport.state === 'connected' && performance.now() - begun < 10000) return;
      clearInterval(look);
      done({ ms: performance.now() - begun, state: transport.state });
    }, 20);
  }));
  const since = Date.now();
  process.kill(old.pid, 'SIGQUIT');
  await until('the control plane ends', 3000, () => !alive(old.pid));
  const took = Date.now() - since;
  ok(took < 1000, 'SIGQUIT: the control plane has ended within 1 s', `${took} ms`);
  const { ms, state } = await ended;
  ok(state === 'closed' && ms < 2000, 'SIGQUIT: a viewer hears of the end at once', `${state}, ${Math.round(ms)} ms`);
  again('controlplane', old);
  await ready();
  const sessions = await known();
  ok(!urls.some((url) => has(sessions, url)), 'SIGQUIT: no session comes back');
}

async function main() {
  const base = base4;
  const pub = await launch({ netns: `${prefix}-pub`, secure: [base] });
  const view = await launch({ netns: `${prefix}-view`, secure: [base] });
  try {
    const publisher = await publish(pub, { stream, codec: 'VP8' });
    const viewers = [await watch(view, { stream }), await watch(view, { stream })];
    const all = { publisher, viewers };
    await Promise.all([publisher, ...viewers].map(mark));
    await sleep(SETTLE_MS);
    note('the control plane is killed and started at once');
    await controlplane('kill -9', 'SIGKILL', 0, all);
    await signalling('kill -9', view, all);
    note('the control plane is killed and stays away for 3 s');
    await controlplane('kill -9 for 3 s', 'SIGKILL', 3000, all);
    note('the control plane is stopped in order');
    await controlplane('SIGTERM', 'SIGTERM', 0, all);
    note('the dataplane is killed');
    await dataplane(all);
    note('both are killed');
    await both(all);
    note('the end of the publisher, known from before all this');
    const { status } = await answered(viewers[0], await resource(publisher), 'DELETE', 401, Date.now());
    ok(status === 401, 'DELETE of a publisher needs its token', status);
    await publisher.context().close();
    await until('the stream ends with its publisher', 10000, async () =>
      !(await ctl('show', 'streams')).streams.some(({ name, live }) => name === stream && live));
    ok(true, 'DELETE of the old publisher ends its stream');
    await Promise.all(viewers.map((page) => page.context().close()));

    note('the control plane is told to end everything');
    const next = { publisher: await publish(pub, { stream, codec: 'VP8' }), viewers: [await watch(view, { stream })] };
    await sleep(1000);
    await quit(next);
    await ready();
  } catch (error) {
    ok(false, 'the scenario runs to its end', error.message.split('\n')[0]);
  } finally {
    await Promise.all([pub.close(), view.close()]);
    endAll();
  }
}

await main();
process.exitCode = finish() ? 0 : 1;
