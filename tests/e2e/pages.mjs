// The pages' own logic, and what they say when something is not as it should be.
import { createServer } from 'node:http';
import { launch, open } from './browser.mjs';
import { base4, sleep } from './node.mjs';
import { ok } from './tap.mjs';
import { publish } from './watch.mjs';
import { decodeClock, drawClock, stripHeight } from '../../controlplane/web/clock.js';
import { Gaps } from '../../controlplane/web/gaps.js';
import { Sender } from '../../controlplane/web/sender.js';
import { explain, isPassing, negotiate, Refusal, token } from '../../controlplane/web/signalling.js';

const kept = new Map();
globalThis.sessionStorage ??= {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
};

/** The strip as drawn, scaled to what decodeClock wants, with each pixel moved by up to `noise`. */
function strip(now, noise = 0) {
  const pixels = new Uint8ClampedArray(4 * 320 * 8);
  const context = {
    fillRect(left, _top, width) {
      for (let y = 0; y < 8; y++) {
        for (let x = left; x < left + width; x++) {
          const level = this.fillStyle === '#fff' ? 235 : 16;
          pixels[4 * (y * 320 + x) + 1] = level + noise * (((x * 7919 + y * 104729) % 201) / 100 - 1);
        }
      }
    },
  };
  drawClock(context, 320, now);
  return pixels;
}

function clock() {
  const times = [0, 1, 0xffffffff, 0x55555555, 1763823456789, 1763823456790];
  ok(times.every((now) => decodeClock(strip(now)) === now % 2 ** 32), 'pages: the clock is read as it was drawn');
  ok(times.every((now) => decodeClock(strip(now, 60)) === now % 2 ** 32), 'pages: also through a coarse codec');
  const broken = strip(1763823456789);
  for (let y = 0; y < 8; y++) for (let x = 88; x < 96; x++) broken[4 * (y * 320 + x) + 1] ^= 0xff;
  ok(decodeClock(broken) === null, 'pages: a clock with a wrong cell is no clock');
  ok(decodeClock(new Uint8ClampedArray(4 * 320 * 8)) === null, 'pages: a black picture is no clock');
  ok(decodeClock(new Uint8ClampedArray(4 * 320 * 8).fill(128)) === null, 'pages: a grey picture is no clock');
  ok(stripHeight(320) === 16 && stripHeight(100) === 8, 'pages: the strip follows the width');
}

function gaps() {
  const quiet = new Gaps(0);
  quiet.poll(0, null, 100);
  quiet.poll(0, 'a', 1100);
  quiet.poll(0, null, 1200);
  ok(quiet.moves === 0, 'pages: to learn or not to learn who sends is no change');
  for (let at = 0; at <= 5000; at += 50) quiet.frame(at, 0);
  ok(quiet.last === null && quiet.worst(5000) === 50, 'pages: an even stream has no gap', quiet.worst(5000));
  quiet.frame(5400, 0);
  ok(quiet.last?.ms === 400 && quiet.worst(5400) === 400, 'pages: a gap between frames is noted', quiet.last?.ms);
  quiet.frame(5600, 3);
  ok(quiet.last.ms === 400, 'pages: frames that were not shown are no gap');
  quiet.poll(700, 'a', 6300);
  quiet.poll(950, 'a', 6550);
  ok(quiet.last.ms === 950, 'pages: a silence that lasts is one gap', quiet.last.ms);
  quiet.poll(0, 'b', 6600);
  ok(quiet.moves === 1, 'pages: another sender is a change');
  ok(quiet.worst(70000) === 0, 'pages: after a minute it is forgotten');
}

async function sender() {
  const said = { '//a/1': { node: 'a', serves: 'a', other: '//b/1' }, '//b/1': { node: 'b', serves: 'a', other: '//a/1' } };
  let asked = 0;
  const who = new Sender('//a/1', { ask: async (url) => { asked++; return said[url] ?? null; }, random: () => 0.5 });
  const at = async (now, ...signs) => { asked = 0; await who.look(now, ...signs); return asked; };
  ok(await at(0, 'x') === 1 && who.node === 'a', 'pages: the node that serves is named', who.node);
  ok(await at(1000, 'x') === 0 && await at(5000, 'x') === 2 && await at(19000, 'x') === 0 && await at(20000, 'x') === 2,
    'pages: nodes are asked now and then');
  said['//a/1'] = null;
  said['//b/1'].serves = 'b';
  ok(await at(25000, 'y') === 0 && await at(27000, 'z') === 2 && who.node === 'b', 'pages: and when a sign tells, soon', who.node);
  said['//a/1'] = { node: 'a', serves: 'a' };
  ok(await at(27500, '!') === 0 && await at(32000, '!') === 2 && who.node === 'a and b',
    'pages: and once more, but not for every sign; cut apart both serve', who.node);
  said['//b/1'] = null;
  said['//a/1'] = { node: 'a', serves: 'b' };
  ok(await at(60000, 'y') === 2 && who.node === 'b', 'pages: one that stands by says who serves', who.node);
  said['//a/1'] = null;
  ok(await at(90000, 'y') === 2 && who.node === null, 'pages: where nobody says it none is named', who.node);
}

/** A server on a port of its own; what was posted to it is in `posted`. */
async function listen(answer) {
  const posted = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    posted.push({ authorization: request.headers.authorization, body });
    answer(request, response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { posted, origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** A node sends new clients to its partner, which asks for the token, too. */
async function sentOn() {
  const partner = await listen((request, response) => {
    const good = request.headers.authorization === 'Bearer right';
    response.writeHead(good ? 201 : 401, good ? { Location: '/whep/session/1' } : {}).end(good ? 'answer' : 'no token');
  });
  const node = await listen((request, response) => response.writeHead(307, { Location: partner.origin + request.url }).end());
  const { fetch } = globalThis;
  globalThis.fetch = (url, options) => fetch(new URL(url, node.origin), options); // as a page of the node's
  const post = () => negotiate('whep', 'demo', 'offer').then((done) => done, (refusal) => refusal.status);
  try {
    token.set('right');
    const done = await post();
    ok(done.answer === 'answer' && done.resource === `${partner.origin}/whep/session/1`,
      'pages: sent on to another origin, a client comes in with its token', JSON.stringify(done));
    ok(partner.posted.length === 2 && !partner.posted[0].authorization && partner.posted.every((p) => p.body === 'offer'),
      'pages: which goes along with the second request only', JSON.stringify(partner.posted));
    token.set('wrong');
    ok(await post() === 401 && partner.posted.length === 4, 'pages: a wrong one is tried once');
    token.set('');
    ok(await post() === 401 && partner.posted.length === 5, 'pages: and none is not tried again');
  } finally {
    globalThis.fetch = fetch;
    node.close();
    partner.close();
  }
}

function words() {
  let good = true;
  for (const status of [0, 400, 401, 403, 404, 406, 409, 413, 415, 422, 429, 500, 503]) {
    const text = explain(new Refusal(status, 'why'), 'whep', 'demo');
    if (!/^[A-ZYB“].{15,}\.$/.test(text)) good = ok(false, `pages: ${status} is explained in a sentence`, text);
  }
  if (good) ok(true, 'pages: every refusal is explained in words');
  ok([0, 409, 503].every((s) => isPassing(new Refusal(s))) && ![400, 401, 406].some((s) => isPassing(new Refusal(s))),
    'pages: only what may pass is tried again');
}

async function insecure(browser) {
  const page = await open(browser, `${base4}/publish?source=camera`);
  await page.waitForSelector('#poster:not([hidden])');
  const text = await page.innerText('#poster');
  ok(/HTTPS/.test(text) && await page.isDisabled('#go'), 'pages: without HTTPS the camera is explained, not asked for',
    text.replace(/\s+/g, ' ').trim().slice(0, 60));
  await page.context().close();
}

async function tokens(browser) {
  const page = await open(browser, `${base4}/publish?stream=tokens&size=320x180&autostart=1`);
  await page.waitForSelector('#alert:not([hidden])');
  ok(/access token/.test(await page.innerText('#alert')) && await page.isVisible('#token'),
    'pages: a missing token is asked for', await page.innerText('#alert'));
  await page.fill('#token', process.env.HL_TOKEN);
  await page.press('#token', 'Enter');
  const live = await page.waitForFunction(() => globalThis.hitless.view.state === 'live', null, { timeout: 10000 })
    .then(() => true, () => false);
  ok(live && await page.isVisible('#share'), 'pages: and with the token it goes live');
  await page.context().close();
}

async function sound(browser) {
  // Looking into a page by script counts as a touch: until it plays it may only speak for itself.
  const context = await browser.newContext({ viewport: { width: 640, height: 480 } });
  await context.addInitScript(() => addEventListener('timeupdate', () => console.log('plays'), { capture: true, once: true }));
  const page = await open(context, `${base4}/?stream=pages`);
  await page.waitForEvent('console', { predicate: (message) => message.text() === 'plays', timeout: 40000 });
  const asked = await page.isVisible('#tap');
  if (asked) await page.click('#tap');
  ok(asked && !await page.evaluate(() => document.querySelector('video').muted), 'pages: sound takes one touch where the browser wants it');
  await page.keyboard.press('m');
  ok(await page.evaluate(() => document.querySelector('video').muted), 'pages: M mutes');
  await page.keyboard.press('i');
  ok(!await page.isVisible('#overlay'), 'pages: I hides the statistics');
  await page.keyboard.press('k');
  await sleep(300);
  ok(await page.evaluate(() => globalThis.hitless.view.state) === 'idle', 'pages: K stops');
  await page.context().close();
}

async function layout(browser) {
  let good = true;
  for (const [width, colorScheme] of [[360, 'light'], [360, 'dark'], [1600, 'light'], [1600, 'dark']]) {
    for (const path of ['/?stream=pages', '/publish?source=test', '/?stream=nobody-here-with-quite-a-long-name']) {
      const page = await open(browser, base4 + path, { viewport: { width, height: 760 }, colorScheme });
      await page.waitForTimeout(800);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select')]
        .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.id));
      if (over > 0 || nameless.length || page.faults.length) {
        good = ok(false, `pages: ${path} at ${width} px, ${colorScheme}`, [over, ...nameless, ...page.faults].join('; '));
      }
      await page.context().close();
    }
  }
  if (good) ok(true, 'pages: no overflow, nameless control or error, on a phone and a wide screen');
}

/** Everything above; `pub` is a browser that publishes. */
export async function pages(pub) {
  clock();
  gaps();
  await sender();
  words();
  await sentOn();
  const publisher = await publish(pub, { stream: 'pages', codec: 'VP8' });
  const browser = await launch({ netns: 'hl-view', gesture: true });
  try {
    await insecure(browser);
    await tokens(browser);
    await sound(browser);
    await layout(browser);
  } finally {
    await browser.close();
    await publisher.context().close();
  }
}
