// The built-in test picture and sound: a moving picture that carries the machine-readable clock
// of clock.js, and a tone that pips once a second.

import { drawClock, stripHeight } from './clock.js';

const BARS = ['#e6e6e6', '#d8c93c', '#2fb8c6', '#35b257', '#b445b0', '#c8433c', '#3457c9'];
const MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

/** Paints one picture of `now` (milliseconds since the epoch) with `label` under the time. */
export function paint(context, width, height, now, label) {
  const top = stripHeight(width);
  const body = height - top;
  context.fillStyle = '#10151d';
  context.fillRect(0, 0, width, height);
  BARS.forEach((colour, i) => {
    context.fillStyle = colour;
    const left = Math.round((i * width) / BARS.length);
    context.fillRect(left, top + body * 0.72, Math.ceil(width / BARS.length), body * 0.28);
  });

  // A sweep that goes round once in two seconds shows a stutter to the eye at once.
  const radius = body * 0.24;
  const x = radius * 1.5;
  const y = top + body * 0.36;
  const turn = ((now % 2000) / 2000) * 2 * Math.PI - Math.PI / 2;
  context.lineWidth = Math.max(2, width / 160);
  context.strokeStyle = '#2b3646';
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
  context.strokeStyle = '#22c79a';
  context.beginPath();
  context.arc(x, y, radius, turn - 1.2, turn);
  context.stroke();
  context.fillStyle = '#fff';
  context.beginPath();
  context.arc(x + radius * Math.cos(turn), y + radius * Math.sin(turn), width / 70, 0, 2 * Math.PI);
  context.fill();

  const date = new Date(now);
  context.textBaseline = 'middle';
  context.fillStyle = '#fff';
  context.font = `600 ${Math.round(body * 0.17)}px ${MONO}`;
  const pad = (value, size) => String(value).padStart(size, '0');
  const time = `${pad(date.getHours(), 2)}:${pad(date.getMinutes(), 2)}:${pad(date.getSeconds(), 2)}`;
  context.fillText(time, x + radius * 1.5, y - body * 0.08);
  context.font = `${Math.round(body * 0.09)}px ${MONO}`;
  context.fillStyle = '#9fb0c3';
  context.fillText(`.${pad(date.getMilliseconds(), 3)}  ${label}`, x + radius * 1.5, y + body * 0.11);

  // A block that crosses the bars keeps the encoder busy over the whole width.
  const across = ((now % 4000) / 4000) * (width + body * 0.2) - body * 0.2;
  context.fillStyle = '#10151d';
  context.fillRect(across, top + body * 0.8, body * 0.12, body * 0.12);
  drawClock(context, width, now);
}

function startTone(context) {
  const out = context.createMediaStreamDestination();
  const gain = context.createGain();
  const tone = context.createOscillator();
  tone.frequency.value = 330;
  gain.gain.value = 0.05;
  tone.connect(gain).connect(out);
  tone.start();
  const pip = context.createOscillator();
  const pipGain = context.createGain();
  pip.frequency.value = 880;
  pipGain.gain.value = 0;
  pip.connect(pipGain).connect(out);
  pip.start();
  const beep = () => {
    pipGain.gain.setValueAtTime(0.2, context.currentTime);
    pipGain.gain.setTargetAtTime(0, context.currentTime + 0.06, 0.02);
  };
  return { out, beep };
}

/**
 * Starts the picture (width x height at fps) and, where `sound`, the tone. `label` is called for the
 * text in the picture. Returns { stream, stop() }; stop ends the tracks.
 */
export function startTestPicture({ width, height, fps, sound, label }) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { alpha: false });
  const manual = typeof globalThis.CanvasCaptureMediaStreamTrack === 'function';
  const stream = canvas.captureStream(manual ? 0 : fps);
  const [video] = stream.getVideoTracks();
  video.contentHint = 'motion';

  const audioContext = sound ? new AudioContext() : null;
  const tone = audioContext ? startTone(audioContext) : null;
  if (tone) {
    audioContext.resume();
    stream.addTrack(tone.out.stream.getAudioTracks()[0]);
  }

  let second = 0;
  const draw = () => {
    const now = Date.now();
    paint(context, width, height, now, label());
    if (manual) video.requestFrame();
    const current = Math.floor(now / 1000);
    if (tone && current !== second) tone.beep();
    second = current;
  };
  draw();
  const ticker = new Worker(new URL('ticker.js', import.meta.url));
  ticker.onmessage = draw;
  ticker.postMessage(1000 / fps);
  return {
    stream,
    stop() {
      ticker.terminate();
      stream.getTracks().forEach((track) => track.stop());
      audioContext?.close();
    },
  };
}
