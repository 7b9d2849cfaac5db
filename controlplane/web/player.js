// The page that watches: picks a stream, keeps a WHEP session up (early.js has begun it), shows the
// picture with sound and says how it is doing. `globalThis.hitless` is for tests and the curious.

import { ClockReader } from './clock.js';
import { link, show as showSession, wantedStream } from './early.js';
import { Gaps } from './gaps.js';
import { Sender } from './sender.js';
import { listStreams, token } from './signalling.js';
import { bitrateText, durationText, percentText, Sampler } from './stats.js';

const POLL_MS = 250; // for silences
const SAMPLE_MS = 1000; // for figures
const LIST_MS = 5000;
const SILENT_MS = 2500; // connected without a packet for as long: the publisher is silent
const STALE_MS = 20000; // and for as long: ask the server again
const STATS_KEY = 'hitless.stats';

const codecName = (codec) => (/^opus$/i.test(codec) ? 'Opus' : codec.toUpperCase());
const $ = (id) => document.getElementById(id);
const video = $('video');
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const use = (id, symbol) => $(id).querySelector('use').setAttribute('href', `#${symbol}`);

const clock = new ClockReader();
const view = {
  stream: null,
  state: 'idle',
  watcher: null, // samples for silences
  sampler: null, // samples for figures
  gaps: null,
  sender: null, // who sends
  asked: 0, // performance.now() when this stream was asked for
  first: null, // ms from then to the first picture
  age: null, // glass to glass, ms
  frames: 0,
  presented: 0,
  stats: null,
  retryAt: 0,
};

// --- the session ------------------------------------------------------------------------------

function connect(pc) {
  view.watcher = new Sampler(pc);
  view.sampler = new Sampler(pc);
  view.gaps ??= new Gaps();
  view.gaps.lastFrame = null;
}

function attach(tracks) {
  video.srcObject = new MediaStream(tracks);
  play();
}

const STATES = {
  idle: 'Stopped',
  connecting: 'Connecting',
  live: 'Live',
  interrupted: 'Interrupted',
  waiting: 'Waiting',
  failed: 'Not playing',
};

function report({ state, words, retryAt = 0, status }) {
  view.state = state;
  view.retryAt = retryAt;
  view.words = words;
  if (state === 'idle' || state === 'failed') video.srcObject = null;
  if (status === 401 || status === 403) {
    $('access').open = true;
    $('token').focus();
  }
  show();
}

function watch(stream) {
  choose(stream);
  link.start(stream);
  showStreams();
}

function choose(stream) {
  Object.assign(view, {
    stream, asked: performance.now(), first: null, age: null, gaps: new Gaps(), stats: null, presented: 0,
    silence: 0, soundOnly: false,
  });
  set('title', stream);
  document.title = `${stream} – hitless`;
  $('stream').value = stream;
  const query = new URLSearchParams(location.search);
  query.set('stream', stream);
  history.replaceState(null, '', `${location.pathname}?${query}`);
}

function stop() {
  link.stop();
}

// --- sound and picture ------------------------------------------------------------------------

async function play() {
  try {
    await video.play();
    $('tap').hidden = !video.muted || !view.wantsSound;
  } catch (error) {
    if (error.name !== 'NotAllowedError' || video.muted) return;
    // Browsers let a page start with a silent picture; sound then takes a touch.
    video.muted = true;
    view.wantsSound = true;
    $('tap').hidden = false;
    await video.play().catch(() => {});
  }
}

function sound(on) {
  video.muted = !on;
  view.wantsSound = false;
  $('tap').hidden = true;
  if (on && video.volume === 0) video.volume = 1;
}

function showVolume() {
  const silent = video.muted || video.volume === 0;
  use('mute', silent ? 'muted' : 'sound');
  $('mute').setAttribute('aria-label', silent ? 'Sound on' : 'Mute');
  $('mute').setAttribute('aria-pressed', String(silent));
  $('volume').value = video.muted ? 0 : video.volume;
}

function onFrame(now, metadata) {
  video.requestVideoFrameCallback(onFrame);
  if (view.state === 'idle') return;
  const skipped = view.presented ? Math.max(0, metadata.presentedFrames - view.presented - 1) : 0;
  view.presented = metadata.presentedFrames;
  view.gaps.frame(metadata.receiveTime ?? now, skipped);
  if (view.first === null) {
    view.first = performance.now() - view.asked;
    show();
  }
  // Every fourth picture is enough for a figure that people read.
  if (view.frames++ % 4 === 0) {
    const age = clock.age(video);
    view.age = age === null ? null : view.age === null ? age : view.age + (age - view.age) / 4;
  }
}

// --- what the page shows ----------------------------------------------------------------------

function show() {
  const { state } = view;
  const silent = state === 'live' && view.silence > SILENT_MS;
  const chip = $('chip');
  chip.dataset.state = silent ? 'waiting' : state;
  set('chip', silent ? 'No media' : STATES[state]);
  const active = state !== 'idle' && state !== 'failed';
  use('play', active ? 'stop' : 'start');
  $('play').setAttribute('aria-label', active ? 'Stop' : 'Play');

  const playing = (state === 'live' || state === 'interrupted') && view.first !== null && !silent;
  const soundOnly = state === 'live' && view.soundOnly && !silent;
  $('poster').hidden = playing;
  $('spinner').hidden = !(state === 'connecting' || state === 'waiting' || (state === 'live' && !silent && !soundOnly));
  $('retry').hidden = !(state === 'failed' || state === 'idle' || state === 'waiting');
  set('retry', state === 'idle' ? 'Watch' : state === 'waiting' ? 'Try now' : 'Try again');
  const titles = {
    idle: view.stream ? `“${view.stream}” is stopped` : 'Pick a stream',
    connecting: `Connecting to “${view.stream}”`,
    live: silent ? 'The publisher sends nothing' : soundOnly ? 'Sound only' : 'Waiting for the first picture',
    interrupted: 'Interrupted',
    waiting: view.words,
    failed: view.words,
  };
  set('poster-title', titles[state]);
  const seconds = Math.max(0, Math.ceil((view.retryAt - performance.now()) / 1000));
  const words = state === 'waiting' ? `Trying again ${seconds > 0 ? `in ${seconds} s` : 'now'}.`
    : silent ? 'The picture comes back by itself.' : state === 'interrupted' ? view.words : '';
  set('poster-words', words);
}

function latencyOf({ video: picture, audio, rtt }) {
  if (view.age !== null) return { name: 'Glass to glass', ms: view.age };
  const buffered = picture?.buffered ?? audio?.buffered;
  if (buffered === null || buffered === undefined) return { name: 'Latency', ms: null };
  return { name: 'Latency', least: true, ms: 1000 * (buffered + (rtt ?? 0) / 2) };
}

function showStats(stats) {
  const picture = stats.video;
  const sound = stats.audio;
  const latency = latencyOf(stats);
  set('latency-name', latency.name);
  set('latency', latency.ms === null ? '–' : `${latency.least ? '≥ ' : ''}${durationText(Math.max(0, latency.ms))}`);
  set('bitrate', bitrateText((picture?.bitrate ?? 0) + (sound?.bitrate ?? 0)));
  const received = (picture?.packets ?? 0) + (sound?.packets ?? 0);
  const lost = Math.max(0, (picture?.lost ?? 0) + (sound?.lost ?? 0));
  set('loss', percentText(received + lost ? lost / (received + lost) : 0));
  set('resolution', picture?.width ? `${picture.width} × ${picture.height}` : 'no picture');
  set('fps', picture?.width ? `${Math.round(picture.fps)} fps` : '–');
  set('freezes', picture ? (picture.freezes ? `${picture.freezes} (${picture.frozen.toFixed(1)} s)` : 'none') : '–');
  set('rtt', stats.rtt === null ? '–' : durationText(1000 * stats.rtt));
  set('codec', [picture?.codec, sound?.codec].filter(Boolean).map(codecName).join(' + ') || '–');
  set('first', view.first === null ? '–' : durationText(view.first));
}

function ago(at, now) {
  const seconds = Math.round((now - at) / 1000);
  return seconds < 1 ? 'now' : seconds < 60 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function showResilience(stats) {
  const { gaps } = view;
  const now = performance.now();
  set('from', [view.sender?.node, stats.path.from].filter(Boolean).join(', ') || '–');
  const ways = stats.path.candidates;
  const spare = ways.filter((way) => way !== stats.path.from);
  set('ways', !ways.length ? '–' : spare.join(', ') || 'none');
  set('moves', gaps.moves ? `${gaps.moves}, last ${ago(gaps.movedAt, now)}` : 'none');
  set('worst', gaps.worst(now) ? durationText(gaps.worst(now)) : '–');
  set('gap', gaps.last ? `${durationText(gaps.last.ms)}, ${ago(gaps.last.at, now)}` : 'none');
  const again = (stats.video?.again ?? 0) + (stats.audio?.again ?? 0);
  set('again', `${again} packet${again === 1 ? '' : 's'}`);
  gaps.draw($('timeline'), now);
}

async function poll() {
  const { watcher } = view;
  if (view.state === 'waiting') show();
  if (!watcher || !link.pc) return;
  const stats = await watcher.sample('in');
  if (watcher !== view.watcher || !link.pc) return;
  const heard = Math.max(stats.video?.heard ?? 0, stats.audio?.heard ?? 0);
  // Statistics carry wall-clock time that does not follow steps of the clock; Date.now() does.
  view.silence = heard ? performance.timeOrigin + performance.now() - heard
    : performance.now() - view.asked;
  if (link.resource && view.sender?.urls[0] !== link.resource) view.sender = new Sender(link.resource);
  view.sender?.look(performance.now(), stats.path.from, view.gaps.last?.at);
  view.gaps.poll(heard ? view.silence : 0, view.sender?.node, performance.now());
  view.soundOnly = view.first === null && !stats.video?.packets && stats.audio?.packets > 50;
  if (view.state === 'live') {
    show();
    if (view.silence > STALE_MS) link.again(`“${view.stream}” went silent.`);
  }
}

async function sample() {
  const { sampler } = view;
  if (!sampler || !link.pc) return;
  const stats = await sampler.sample('in');
  if (sampler !== view.sampler || !link.pc) return;
  view.stats = stats;
  showStats(stats);
  showResilience(stats);
}

// --- the list of streams ----------------------------------------------------------------------

function showStreams(list = view.list) {
  view.list = list;
  const rows = (list ?? []).map((stream) => {
    const row = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'stream';
    button.dataset.live = String(Boolean(stream.live));
    if (stream.name === view.stream) button.setAttribute('aria-current', 'true');
    const title = document.createElement('strong');
    title.textContent = stream.name;
    const what = document.createElement('span');
    const codecs = [stream.video, stream.audio].filter(Boolean).map(codecName).join(' + ');
    // The list is some seconds old, and who looks at it may be the first.
    const self = stream.name === view.stream && view.state === 'live' ? 1 : 0;
    const viewers = `${Math.max(stream.viewers ?? 0, self)} watching`;
    what.textContent = stream.live ? [codecs, viewers].filter(Boolean).join(' · ') : 'not live';
    button.append(title, what);
    button.onclick = () => watch(stream.name);
    row.append(button);
    return row;
  });
  const focused = document.activeElement?.closest?.('.stream')?.firstChild?.textContent;
  $('streams').replaceChildren(...rows);
  if (focused) rows.find((row) => row.textContent.startsWith(focused))?.firstChild.focus();
  const note = list === null ? 'This server does not list its streams. Type a name.'
    : list && !list.length ? 'Nothing is live at the moment.' : '';
  set('streams-note', note);
  $('streams-note').hidden = !note;
}

async function refresh() {
  if (document.visibilityState === 'visible') showStreams(await listStreams());
}

// --- wiring -----------------------------------------------------------------------------------

function toggle() {
  if (view.state === 'idle' || view.state === 'failed') watch(view.stream ?? wantedStream());
  else stop();
}

function showOverlay(on) {
  $('overlay').hidden = !on;
  $('stats').setAttribute('aria-expanded', String(on));
  localStorage.setItem(STATS_KEY, on ? '1' : '0');
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if ($('screen').requestFullscreen) $('screen').requestFullscreen();
  else video.webkitEnterFullscreen?.(); // iPhones take only the video itself
}

function pictureInPicture() {
  if (document.pictureInPictureElement) document.exitPictureInPicture();
  else video.requestPictureInPicture().catch(() => {});
}

const KEYS = {
  k: toggle,
  m: () => sound(video.muted),
  f: fullScreen,
  i: () => showOverlay($('overlay').hidden),
  p: () => { if (!$('pip').hidden) pictureInPicture(); },
};

function wire() {
  $('play').onclick = toggle;
  $('retry').onclick = () => watch(view.stream ?? wantedStream());
  $('tap').onclick = () => sound(true);
  $('mute').onclick = () => sound(video.muted || video.volume === 0);
  $('volume').oninput = ({ target }) => {
    video.volume = Number(target.value);
    sound(video.volume > 0);
  };
  video.onvolumechange = showVolume;
  $('stats').onclick = () => showOverlay($('overlay').hidden);
  $('full').onclick = fullScreen;
  $('pip').hidden = !document.pictureInPictureEnabled;
  $('pip').onclick = pictureInPicture;
  $('pick').onsubmit = (event) => {
    event.preventDefault();
    watch($('stream').value.trim());
  };
  $('token').value = token.get();
  $('token-form').onsubmit = (event) => {
    event.preventDefault();
    token.set($('token').value.trim());
    refresh();
    watch(view.stream ?? wantedStream());
  };
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input:not([type=range]), select, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = KEYS[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
  addEventListener('hashchange', () => {
    const stream = decodeURIComponent(location.hash.replace(/^#\/?/, ''));
    if (stream) watch(stream);
  });
  // A hidden page is shown no pictures; that is no gap.
  document.addEventListener('visibilitychange', () => {
    view.presented = 0;
    if (view.gaps) view.gaps.lastFrame = null;
  });
  addEventListener('online', () => { if (view.state === 'waiting') link.start(view.stream); });
  addEventListener('pagehide', () => link.drop());
  addEventListener('pageshow', ({ persisted }) => { if (persisted && view.stream) watch(view.stream); });
}

function main() {
  wire();
  showOverlay(localStorage.getItem(STATS_KEY) !== '0');
  showVolume();
  if (!globalThis.RTCPeerConnection) {
    report({ state: 'failed', words: 'This browser has no WebRTC, or it is switched off.' });
    return;
  }
  choose(wantedStream());
  view.asked = 0; // counted from the opening of the page
  showSession({ connect, play: attach, report });
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
  else video.onplaying = () => { view.first ??= performance.now() - view.asked; show(); };
  setInterval(poll, POLL_MS);
  setInterval(sample, SAMPLE_MS);
  refresh();
  setInterval(refresh, LIST_MS);
}

globalThis.hitless = { view, link, clock };
main();
