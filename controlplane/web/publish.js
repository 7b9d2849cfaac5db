// The page that publishes: camera, screen or the built-in test picture, by WHIP. Settings may come
// in the address (?stream=, source=, codec=, size=640x360, rate=, kbits=, sound=0, autostart=1), so
// that a kiosk or a test needs no hand. `globalThis.hitless` is for tests and the curious.

import { Link } from './link.js';
import { token } from './signalling.js';
import { bitrateText, durationText, percentText, Sampler } from './stats.js';
import { startTestPicture } from './testpicture.js';

const SAMPLE_MS = 1000;
const INSECURE = 'Browsers give camera, microphone and screen only to pages opened over HTTPS or from ' +
  'this very machine (http://localhost). The test picture works everywhere.';

const $ = (id) => document.getElementById(id);
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const view = { source: null, capture: null, state: 'idle', sampler: null, stats: null, liveAt: 0 };

// --- settings ---------------------------------------------------------------------------------

function settings() {
  const [width, height] = $('size').value.split('x').map(Number);
  return {
    source: document.querySelector('[name=source]:checked').value,
    stream: $('stream').value.trim(),
    width,
    height,
    fps: Number($('rate').value),
    codec: $('codecs').value,
    bits: 1000 * Number($('kbits').value),
    sound: $('sound').checked,
  };
}

function choose(select, value) {
  if (!value) return;
  if (![...select.options].some((option) => option.value === value)) select.add(new Option(value, value));
  select.value = value;
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  if (query.has('stream')) $('stream').value = query.get('stream');
  const source = document.querySelector(`[name=source][value="${CSS.escape(query.get('source') ?? '')}"]`);
  if (source) source.checked = true;
  if (/^\d+x\d+$/.test(query.get('size') ?? '')) choose($('size'), query.get('size'));
  if (/^\d+$/.test(query.get('rate') ?? '')) choose($('rate'), query.get('rate'));
  const codec = [...$('codecs').options].find((o) => o.value.toLowerCase() === query.get('codec')?.toLowerCase());
  if (codec) $('codecs').value = codec.value;
  if (/^\d+$/.test(query.get('kbits') ?? '')) $('kbits').value = query.get('kbits');
  if (query.get('sound') === '0') $('sound').checked = false;
  return query.get('autostart') === '1';
}

function listCodecs() {
  const offered = globalThis.RTCRtpSender?.getCapabilities?.('video')?.codecs ?? [];
  const names = [...new Set(offered.map((codec) => codec.mimeType.split('/')[1]))]
    .filter((codec) => !/^(rtx|red|ulpfec|flexfec)/i.test(codec));
  $('codecs').replaceChildren(new Option('Automatic', ''), ...names.map((codec) => new Option(codec, codec)));
}

async function listDevices() {
  const devices = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []) ?? [];
  const fill = (select, kind, word, extra) => {
    const before = select.value;
    const found = devices.filter((device) => device.kind === kind && device.deviceId);
    select.replaceChildren(...extra, ...found.map((device, i) =>
      new Option(device.label || `${word} ${i + 1}`, device.deviceId)));
    if (!select.options.length) select.add(new Option(`Default ${word.toLowerCase()}`, ''));
    if ([...select.options].some((option) => option.value === before)) select.value = before;
  };
  fill($('camera'), 'videoinput', 'Camera', []);
  fill($('microphone'), 'audioinput', 'Microphone', []);
}

// --- capture ----------------------------------------------------------------------------------

function camera({ width, height, fps, sound }) {
  const exactly = (id) => (id ? { deviceId: { exact: id } } : {});
  return navigator.mediaDevices.getUserMedia({
    video: {
      width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps },
      ...exactly($('camera').value),
    },
    audio: sound ? exactly($('microphone').value) : false,
  });
}

function screen({ width, height, fps, sound }) {
  return navigator.mediaDevices.getDisplayMedia({
    video: { width: { max: width }, height: { max: height }, frameRate: { max: fps } },
    audio: sound,
  });
}

async function capture(wanted) {
  if (wanted.source === 'test') return startTestPicture({ ...wanted, label: () => $('stream').value.trim() });
  const stream = await (wanted.source === 'camera' ? camera(wanted) : screen(wanted));
  const [picture] = stream.getVideoTracks();
  picture.contentHint = wanted.source === 'screen' ? 'detail' : 'motion';
  // The browser's own "stop sharing", or a camera that was unplugged.
  picture.onended = () => {
    if (view.capture?.stream !== stream) return;
    end();
    fail(wanted.source === 'screen' ? 'Sharing the screen was ended.' : 'The camera went away.');
  };
  return { stream, stop: () => stream.getTracks().forEach((track) => track.stop()) };
}

const CAPTURE_ERRORS = {
  NotAllowedError: 'The browser was not allowed to capture. Allow it in the address bar and try again.',
  NotFoundError: 'No such device was found. Is a camera or microphone connected?',
  NotReadableError: 'The device is in use by another program.',
  OverconstrainedError: 'The chosen device is not there any more, or cannot do this resolution.',
  AbortError: 'Capturing was cancelled.',
};

/** Opens the chosen source for the preview; true if it is open. */
async function open() {
  close();
  const wanted = settings();
  fail('');
  try {
    const opened = await capture(wanted);
    close(); // whatever was opened while the person was being asked
    view.capture = opened;
  } catch (error) {
    fail(CAPTURE_ERRORS[error.name] ?? `Capturing failed: ${error.message}`);
    show();
    return false;
  }
  $('video').srcObject = view.capture.stream;
  $('video').classList.toggle('mirror', wanted.source === 'camera');
  if (wanted.source === 'camera') await listDevices();
  show();
  return true;
}

function close() {
  view.capture?.stop();
  view.capture = null;
  $('video').srcObject = null;
}

// --- the session ------------------------------------------------------------------------------

function preferCodec(transceiver, wanted) {
  const codecs = RTCRtpSender.getCapabilities?.('video')?.codecs;
  if (!wanted || !codecs || !transceiver.setCodecPreferences) return;
  const is = (codec) => codec.mimeType.toLowerCase() === `video/${wanted.toLowerCase()}`;
  transceiver.setCodecPreferences([...codecs.filter(is), ...codecs.filter((c) => /\/(rtx|red|ulpfec)$/i.test(c.mimeType))]);
}

function prepare(pc) {
  const { stream } = view.capture;
  const { codec, bits, fps, source } = settings();
  for (const track of stream.getTracks()) {
    const options = { direction: 'sendonly', streams: [stream] };
    if (track.kind === 'video') options.sendEncodings = [{ maxBitrate: bits, maxFramerate: fps }];
    const transceiver = pc.addTransceiver(track, options);
    if (track.kind === 'video') {
      preferCodec(transceiver, codec);
      const parameters = transceiver.sender.getParameters();
      parameters.degradationPreference = source === 'screen' ? 'maintain-resolution' : 'maintain-framerate';
      transceiver.sender.setParameters(parameters).catch(() => {});
    }
  }
  view.sampler = new Sampler(pc);
}

const STATES = {
  idle: 'Not live',
  connecting: 'Connecting',
  live: 'Live',
  interrupted: 'Interrupted',
  waiting: 'Waiting',
  failed: 'Not live',
};

function report({ state, words, retryAt = 0, status }) {
  if (state === 'live' && view.state !== 'interrupted') view.liveAt = performance.now();
  Object.assign(view, { state, words, retryAt });
  if (status === 401 || status === 403) {
    $('access').open = true;
    $('token').focus();
  }
  if (state === 'failed' || state === 'waiting' || state === 'interrupted') fail(words);
  else if (state === 'live' || state === 'connecting') fail('');
  show();
}

const link = new Link('whip', prepare, report);

async function go() {
  if (!view.capture && !await open()) return;
  link.start(settings().stream);
}

function end() {
  link.stop();
  if (settings().source !== 'test') close();
  show();
}

// --- what the page shows ----------------------------------------------------------------------

function fail(words) {
  set('alert', words);
  $('alert').hidden = !words;
}

function show() {
  const { state } = view;
  const { source, stream } = settings();
  const active = state !== 'idle' && state !== 'failed';
  $('chip').dataset.state = state;
  set('chip', STATES[state]);
  set('title', stream);
  set('go', active ? 'Stop' : 'Go live');
  $('go').classList.toggle('danger', active);
  for (const id of ['stream', 'size', 'rate', 'codecs', 'kbits', 'sound', 'camera', 'microphone']) {
    $(id).disabled = active;
  }
  document.querySelectorAll('[name=source]').forEach((radio) => { radio.disabled = active; });
  $('devices').hidden = source !== 'camera' || !navigator.mediaDevices;
  $('share').hidden = state !== 'live';
  const url = new URL(`/?stream=${encodeURIComponent(stream)}`, location.href).href;
  $('share-link').href = url;
  set('share-link', url.replace(/^https?:\/\//, ''));

  const able = source === 'test' || (source === 'camera' ? navigator.mediaDevices?.getUserMedia
    : navigator.mediaDevices?.getDisplayMedia);
  $('poster').hidden = Boolean(view.capture);
  set('poster-title', able ? { camera: 'The camera is off', screen: 'No screen is shared', test: 'Test picture' }[source]
    : source === 'screen' && globalThis.isSecureContext ? 'This browser cannot share its screen'
      : 'This page may not capture here');
  set('poster-words', able ? 'Nobody sees anything before you go live.' : globalThis.isSecureContext ? '' : INSECURE);
  set('open', source === 'camera' ? 'Turn on the camera' : 'Choose what to share');
  $('open').hidden = !able || source === 'test';
  $('go').disabled = !able || !globalThis.RTCPeerConnection;
}

const LIMITS = { none: 'nothing', cpu: 'this computer', bandwidth: 'the network', other: 'the browser' };

function showStats({ video, audio, rtt }) {
  set('bitrate', bitrateText((video?.bitrate ?? 0) + (audio?.bitrate ?? 0)));
  set('resolution', video?.width ? `${video.width} × ${video.height}` : '–');
  set('fps', video ? `${Math.round(video.fps)} fps` : '–');
  set('rtt', rtt === null ? '–' : durationText(1000 * rtt));
  set('loss', video?.loss === null || !video ? '–' : percentText(video.loss));
  set('again', `${(video?.again ?? 0) + (audio?.again ?? 0)} packets`);
  set('limited', LIMITS[video?.limited] ?? '–');
  const codecs = [video?.codec, audio?.codec && 'Opus'].filter(Boolean);
  set('codec', codecs.join(' + ') || '–');
  const seconds = Math.floor((performance.now() - view.liveAt) / 1000);
  const two = (value) => String(value).padStart(2, '0');
  set('onair', view.state === 'live' ? `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}` : '–');
}

async function tick() {
  if (view.state === 'waiting') {
    const seconds = Math.max(0, Math.ceil((view.retryAt - performance.now()) / 1000));
    fail(`${view.words} Trying again ${seconds ? `in ${seconds} s` : 'now'}.`);
  }
  const { sampler } = view;
  if (!sampler || !link.pc) return;
  const stats = await sampler.sample('out');
  if (sampler !== view.sampler || !link.pc) return;
  view.stats = stats;
  showStats(stats);
}

// --- wiring -----------------------------------------------------------------------------------

async function sourceChanged() {
  close();
  fail('');
  show();
  const { source } = settings();
  if (source === 'test') await open();
  else if (source === 'camera' && navigator.mediaDevices) {
    await listDevices();
    const granted = await navigator.permissions?.query({ name: 'camera' }).catch(() => null);
    if (granted?.state === 'granted' && settings().source === 'camera') await open();
  }
}

function wire() {
  $('form').onsubmit = (event) => {
    event.preventDefault();
    if (view.state === 'idle' || view.state === 'failed') go();
    else end();
  };
  $('open').onclick = open;
  document.querySelectorAll('[name=source]').forEach((radio) => { radio.onchange = sourceChanged; });
  for (const id of ['size', 'rate', 'sound', 'camera', 'microphone']) {
    $(id).onchange = () => { if (view.capture && settings().source !== 'screen') open(); };
  }
  $('stream').oninput = show;
  $('copy').onclick = async () => {
    try {
      await navigator.clipboard.writeText($('share-link').href);
      set('copy', 'Copied');
    } catch {
      getSelection().selectAllChildren($('share-link'));
      set('copy', 'Press Ctrl+C');
    }
    setTimeout(() => set('copy', 'Copy'), 2000);
  };
  $('token').value = token.get();
  $('token-form').onsubmit = (event) => {
    event.preventDefault();
    token.set($('token').value.trim());
    if (view.state === 'failed') go();
  };
  navigator.mediaDevices?.addEventListener?.('devicechange', listDevices);
  addEventListener('pagehide', () => link.drop());
  addEventListener('pageshow', ({ persisted }) => { if (persisted && view.state !== 'idle') link.start(settings().stream); });
}

async function main() {
  wire();
  listCodecs();
  const autostart = fromAddress();
  await sourceChanged();
  if (!globalThis.RTCPeerConnection) fail('This browser has no WebRTC, or it is switched off.');
  else if (autostart) await go();
  setInterval(tick, SAMPLE_MS);
}

globalThis.hitless = { view, link };
main();
