// The viewer's session. It begins before the page is there: the page loads this first, so that the
// offer is under way while the rest is still being fetched and laid out. The player takes it up.

import { Link } from './link.js';

const DEFAULT_STREAM = 'demo';

let player = null;
let said = null; // the last report, for a player who comes later
let playing = null; // tracks

/** The stream that the page's address names. */
export function wantedStream() {
  const hash = decodeURIComponent(location.hash.replace(/^#\/?/, ''));
  return hash || new URLSearchParams(location.search).get('stream') || DEFAULT_STREAM;
}

function stereo(sdp) {
  const opus = /a=rtpmap:(\d+) opus\/48000/i.exec(sdp);
  return opus ? sdp.replace(new RegExp(`(a=fmtp:${opus[1]} [^\\r\\n]*)`), '$1;stereo=1') : sdp;
}

function prepare(pc) {
  const tracks = [];
  playing = null;
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.addTransceiver('audio', { direction: 'recvonly' });
  pc.ontrack = ({ track }) => {
    // All tracks at once, after the last event: whether playing may start depends on sound.
    if (tracks.push(track) > 1) return;
    setTimeout(() => {
      if (link.pc !== pc) return;
      playing = tracks;
      player?.play(tracks);
    });
  };
  player?.connect(pc);
  return stereo;
}

function report(what) {
  said = what;
  player?.report(what);
}

export const link = new Link('whep', prepare, report);

/**
 * Has a player hear of the session from now on, and of what has been so far: connect(pc), play(tracks), report(what)
 * as of a Link.
 */
export function show(who) {
  player = who;
  if (link.pc) player.connect(link.pc);
  if (said) player.report(said);
  if (playing) player.play(playing);
}

if (globalThis.RTCPeerConnection) link.start(wantedStream());
