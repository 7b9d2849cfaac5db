// The scenarios, in order. `run` has built the network and started the node. See ./run.
import { launch, open } from './browser.mjs';
import { base4, base6, baseTls, ctl, end, here, isLive, start, token, until } from './node.mjs';
import { openings, openingText } from './opening.mjs';
import { pages } from './pages.mjs';
import { finish, note, ok, quantile } from './tap.mjs';
import { latencyText, measure, publish, RATE, watch } from './watch.mjs';

const FIRST_MS = 1000; // from the opening of the page to the first picture, of most
const SETTLE_MS = 3000;

const browsers = {};

/** One browser for each machine, started when first needed. */
async function browser(machine) {
  browsers[machine] ??= await launch({ netns: `hl-${machine}`, secure: [base4, base6] });
  return browsers[machine];
}

const closeAll = (pages) => Promise.all(pages.filter(Boolean).map((page) => page.context().close()));

/** Checks what measure() found of each viewer; `rate` is the frame rate they should see. */
function judge(label, names, { viewers }, rate) {
  viewers.forEach((viewer, i) => {
    const who = `${label}: ${names[i]}`;
    const part = viewer.fps / rate;
    ok(part > 0.8 && part < 1.2, `${who} decodes at the published rate`,
      `${viewer.fps.toFixed(1)} of ${rate.toFixed(1)} fps, ${viewer.codec}`);
    const six = /IPv6/.test(names[i]);
    ok(viewer.from.startsWith('[') === six, `${who} gets its media over ${six ? 'IPv6' : 'IPv4'}`, viewer.from);
    ok(viewer.energy > 0, `${who} hears sound`, `energy ${viewer.energy.toFixed(4)}`);
    ok(viewer.moves, `${who} sees the picture move`, `frozen for ${viewer.frozen.toFixed(2)} s`);
    ok(viewer.lost === 0, `${who} misses no packet`, `${viewer.lost} of ${viewer.packets}`);
    if (viewer.ages.length) note(`${who}: glass to glass ${latencyText(viewer.ages)}`);
  });
}

async function threeViewers(stream) {
  const view = await browser('view');
  const six = await browser('six');
  const pages = [];
  for (const [where, base] of [[view, base4], [view, base4], [six, base6]]) {
    pages.push(await watch(where, { stream, base }));
  }
  return pages;
}

async function fromBrowser(label, codec, source = 'test') {
  const stream = `e2e-${label}`;
  const publisher = await publish(await browser('pub'), { stream, codec, source });
  const viewers = await threeViewers(stream);
  await publisher.waitForTimeout(SETTLE_MS);
  const seen = await measure(viewers, { publisher });
  ok(seen.rate > 0.5 * RATE, `${label}: the browser publishes`, `${seen.rate.toFixed(1)} frames a second`);
  judge(label, ['first viewer over IPv4', 'second viewer over IPv4', 'viewer over IPv6'], seen, seen.rate);
  seen.viewers.forEach((viewer, i) => {
    ok(viewer.codec.toLowerCase() === `video/${codec.toLowerCase()}`, `${label}: viewer ${i + 1} gets ${codec}`, viewer.codec);
    if (source === 'test') ok(viewer.ages.length > 20, `${label}: viewer ${i + 1} reads the clock`, viewer.ages.length);
  });
  const faults = [publisher, ...viewers].flatMap((page) => page.faults);
  ok(faults.length === 0, `${label}: the pages raise no error`, faults.join('; '));
  await closeAll([publisher, ...viewers]);
}

async function canEncode(codec) {
  const page = await open(await browser('pub'), `${base4}/publish`);
  const can = await page.evaluate((name) => RTCRtpSender.getCapabilities('video').codecs
    .some(({ mimeType }) => mimeType.toLowerCase() === `video/${name}`), codec.toLowerCase());
  await page.context().close();
  return can;
}

// --- Debian's simple-whip-client ----------------------------------------------------------------

const VIDEO = {
  VP8: `vp8enc deadline=1 cpu-used=8 keyframe-max-dist=60 target-bitrate=400000 ! rtpvp8pay pt=96 picture-id-mode=15-bit
    ! application/x-rtp,media=video,encoding-name=VP8,payload=96`,
  H264: `x264enc tune=zerolatency speed-preset=ultrafast bitrate=400 key-int-max=60
    ! video/x-h264,profile=constrained-baseline ! rtph264pay pt=96 config-interval=-1 aggregate-mode=zero-latency
    ! application/x-rtp,media=video,encoding-name=H264,payload=96`,
};

/** Starts whip-client as the publisher of `stream`, resolves when it is live. */
async function whipClient(stream, codec, sound = true) {
  const [command, ...args] = process.env.HL_WHIP_CLIENT.split(' ');
  const line = (text) => text.replace(/\s+/g, ' ').trim();
  const child = start('hl-pub', command, [...args,
    '-u', `${base4}/whip/${stream}`, '-t', token, '-l', '3',
    '-V', line(`videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=${RATE}/1
      ! videoconvert ! queue ! ${VIDEO[codec]}`),
    ...(!sound ? [] : ['-A', line(`audiotestsrc is-live=true wave=sine volume=0.2 ! audioconvert ! audioresample ! queue
      ! opusenc bitrate=48000 ! rtpopuspay pt=111 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111`)])]);
  try {
    await until(`whip-client publishes ${codec}`, 15000, () => isLive(stream));
  } catch (error) {
    await end(child);
    throw new Error(`${error.message}: ${(child.errors + child.output).trim().split('\n').slice(-3).join(' | ')}`);
  }
  return child;
}

async function fromWhipClient(codec) {
  const stream = `whip-${codec.toLowerCase()}`;
  const client = await whipClient(stream, codec);
  try {
    const viewer = await watch(await browser('view'), { stream });
    await viewer.waitForTimeout(SETTLE_MS);
    judge(`whip-client ${codec}`, ['viewer'], await measure([viewer], { seconds: 10 }), RATE);
    await closeAll([viewer]);
  } finally {
    await end(client);
  }
  await until('the stream ends with its publisher', 10000, async () => !await isLive(stream));
  ok(true, `whip-client ${codec}: its DELETE ends the stream`);
}

/** FFmpeg's kind of offer: setup:passive, so that the node begins the DTLS handshake. */
async function fromPassive() {
  const stream = 'e2e-passive';
  const publisher = start('hl-pub', '/usr/bin/python3', [here('whip_passive.py'), `${base4}/whip/${stream}`, token]);
  try {
    await until('a publisher that is the DTLS server goes live', 10000, () => isLive(stream));
    const viewer = await watch(await browser('view'), { stream });
    await viewer.waitForTimeout(SETTLE_MS);
    const { viewers: [{ fps, energy }] } = await measure([viewer], { seconds: 4 });
    ok(fps > 10, 'setup:passive: a viewer decodes what such a publisher sends', `${fps.toFixed(1)} fps`);
    note(`setup:passive: sound energy ${energy.toFixed(4)} (the publisher's track is silent)`);
    await closeAll([viewer]);
  } finally {
    await end(publisher);
  }
  await until('its stream ends with it', 5000, async () => !await isLive(stream));
  ok(publisher.errors === '', 'setup:passive: the publisher ends its session without a complaint', publisher.errors);
}

// --- HTTPS ------------------------------------------------------------------------------------

const sh = async (netns, line) => {
  const child = start(netns, 'bash', ['-c', line]);
  await child.ended;
  return child.output.trim();
};

const serial = () => sh('hl-view', `openssl s_client -connect ${new URL(baseTls).host} </dev/null 2>/dev/null |
  openssl x509 -noout -serial`);

async function https() {
  const stream = 'e2e-tls';
  const publisher = await publish(await browser('pub'), { stream, codec: 'VP8' });
  const viewer = await watch(await browser('view'), { stream, base: baseTls, options: { ignoreHTTPSErrors: true } });
  ok(await viewer.evaluate(() => globalThis.isSecureContext && location.protocol === 'https:'),
    'https: the page plays over HTTPS, in a secure context');
  const bees = start('hl-view', process.env.HL_BEES,
    ['whep', `${baseTls}/whep/${stream}`, '--sessions', '3', '--duration', '3', '--insecure', '--json']);
  await bees.ended;
  const result = JSON.parse(bees.output.trim().split('\n').at(-1) || '{}');
  ok(result.connected === 3 && result.packets > 0, 'https: WHEP over TLS serves three more viewers',
    `${result.connected} connected, ${result.packets} packets`);

  const before = await serial();
  await sh('hl-node', 'make_certificate');
  await until('the renewed certificate is taken up', 10000, async () => (await serial()) !== before);
  ok(before.startsWith('serial='), 'https: a renewed certificate is served without a restart');
  const { viewers: [{ fps }] } = await measure([viewer], { seconds: 3 });
  ok(fps > 0.5 * RATE, 'https: who watched meanwhile goes on watching', `${fps.toFixed(1)} fps`);
  ok(viewer.faults.length === 0, 'https: the page raises no error', viewer.faults.join('; '));
  const publishing = await open(await browser('view'), `${baseTls}/publish`, { ignoreHTTPSErrors: true });
  await publishing.waitForFunction(() => globalThis.hitless);
  ok(publishing.faults.length === 0 && !await publishing.isDisabled('#go'), 'https: the page that publishes is ready',
    publishing.faults.join('; '));
  await closeAll([publishing, viewer, publisher]);
}

// --- a viewer that is no browser ------------------------------------------------------------------

async function gstViewer(codec, publisher, sound = true) {
  const stream = `gst-${codec.toLowerCase()}${sound ? '' : '-silent'}`;
  const stop = await publisher(stream, codec, sound);
  try {
    for (const [netns, base] of [['hl-view', base4], ['hl-six', base6]]) {
      const viewer = start(netns, '/usr/bin/python3', [here('whep_gst.py'), `${base}/whep/${stream}`, '--frames', '100',
        ...(sound ? [] : ['--silent'])]);
      const code = await viewer.ended;
      const last = viewer.output.trim().split('\n').at(-1);
      ok(code === 0, `webrtcbin decodes 100 frames of ${codec}${sound ? '' : ' without sound'} over ${base === base4 ? 'IPv4' : 'IPv6'}`,
        code === 0 ? last : viewer.errors.trim().split('\n').slice(-2).join(' | '));
    }
  } finally {
    await stop();
  }
}

async function browserPublisher(stream, codec) {
  const page = await publish(await browser('pub'), { stream, codec });
  return () => page.context().close();
}

async function whipPublisher(stream, codec, sound) {
  const client = await whipClient(stream, codec, sound);
  return () => end(client);
}

// --- bad input --------------------------------------------------------------------------------------

async function hostile() {
  const stream = 'e2e-hostile';
  const publisher = await publish(await browser('pub'), { stream, codec: 'VP8' });
  const viewers = [await watch(await browser('view'), { stream })];
  await publisher.waitForTimeout(SETTLE_MS);
  let attack;
  const seen = await measure(viewers, {
    publisher,
    seconds: 10,
    meanwhile: async () => {
      attack = start('hl-bad', '/usr/bin/python3', [here('hostile.py'), base4, stream]);
      await attack.ended;
    },
  });
  const lines = attack.output.split('\n').filter((line) => /^(not )?ok - /.test(line));
  for (const line of lines) ok(line.startsWith('ok'), line.replace(/^(not )?ok - /, ''));
  ok(attack.output.trim().endsWith('# done'), 'hostile: the attacker ran to its end',
    attack.errors.trim().split('\n').at(-1));
  judge('hostile', ['viewer under attack'], seen, seen.rate);
  const sessions = (await ctl('show', 'sessions')).sessions.filter((s) => s.stream === stream);
  ok(sessions.length === 2, 'hostile: only the publisher and the viewer are left on the stream', sessions.length);
  await closeAll([publisher, ...viewers]);
}

// --- the pages themselves -----------------------------------------------------------------------

async function firstPicture() {
  const client = await whipClient('demo', 'VP8'); // as scripts/run: a key frame every 3 s
  try {
    const where = await browser('view');
    await openings(where, `${base4}/`, 1, () => {}); // a browser's very first page warms it up
    const times = await openings(where, `${base4}/`, 10, note);
    ok(quantile(times, 0.5) < FIRST_MS, `the first picture comes within ${FIRST_MS / 1000} s of opening the page`, openingText(times));
  } finally {
    await end(client);
  }
}

/** A publisher that comes back: the viewer waits in words and goes on by itself. */
async function reload() {
  const stream = 'e2e-reload';
  const pub = await browser('pub');
  let publisher = await publish(pub, { stream, codec: 'VP8' });
  const viewer = await watch(await browser('view'), { stream });
  await closeAll([publisher]);
  await viewer.waitForFunction(() => globalThis.hitless.view.silence > 2500 || globalThis.hitless.view.state === 'waiting');
  await viewer.waitForTimeout(500);
  const words = (await viewer.innerText('#poster')).trim().replace(/\s+/g, ' ');
  ok(await viewer.isVisible('#poster') && words.length > 10, 'a viewer is told that the publisher went away', words);
  publisher = await publish(pub, { stream, codec: 'VP8' });
  const back = await viewer.waitForFunction(() => globalThis.hitless.view.state === 'live' &&
    globalThis.hitless.view.silence < 1000, null, { timeout: 15000 }).then(() => true, () => false);
  await viewer.waitForTimeout(1500);
  const { viewers: [{ fps }] } = await measure([viewer], { seconds: 3 });
  ok(back && fps > 0.5 * RATE, 'and sees it again without a touch', `${fps.toFixed(1)} fps`);
  await viewer.context().close();
  await until('a closed page leaves', 5000, async () =>
    (await ctl('show', 'sessions')).sessions.filter((s) => s.stream === stream).length === 1);
  ok(true, 'a closed page ends its session at once');
  await closeAll([publisher]);
}

const SCENARIOS = {
  pages: async () => pages(await browser('pub')),
  vp8: () => fromBrowser('vp8', 'VP8'),
  h264: async () => {
    if (await canEncode('H264')) return fromBrowser('h264', 'H264');
    note('this Chromium encodes no H.264: whip-client (x264) publishes it instead, see whip');
    return null;
  },
  camera: () => fromBrowser('camera', 'VP8', 'camera'),
  first: firstPicture,
  reload,
  whip: async () => {
    await fromWhipClient('VP8');
    await fromWhipClient('H264');
  },
  passive: fromPassive,
  gst: async () => {
    await gstViewer('VP8', browserPublisher);
    await gstViewer('H264', whipPublisher);
    await gstViewer('VP8', whipPublisher, false);
  },
  tls: https,
  hostile,
};

const wanted = process.argv.slice(2);
for (const name of wanted.length ? wanted : Object.keys(SCENARIOS)) {
  note(name);
  try {
    if (!SCENARIOS[name]) throw new Error(`there are ${Object.keys(SCENARIOS).join(', ')}`);
    await SCENARIOS[name]();
  } catch (error) {
    ok(false, `${name} runs to its end`, error.message.split('\n')[0]);
  }
  // A scenario that failed half-way must not disturb the next.
  for (const one of Object.values(browsers)) await closeAll(one.contexts().flatMap((context) => context.pages()));
}
await Promise.all(Object.values(browsers).map((one) => one.close()));
process.exitCode = finish() ? 0 : 1;
