// One WHIP or WHEP session kept up for as long as it is wanted: offers, watches the connection,
// backs off and connects again. The page gives it a way to fill a peer connection and hears about
// every change of state in words.

import { explain, hangUp, isPassing, negotiate } from './signalling.js';

const BACKOFF_MS = [300, 1000, 2000, 4000, 8000];
const CONNECT_MS = 10000; // from the answer to "connected"
const INTERRUPTED_MS = 6000; // "disconnected" for longer than that is given up
const STABLE_MS = 5000; // connected for as long forgives earlier failures

export class Link {
  /**
   * role: "whip" or "whep". prepare(pc): adds tracks or transceivers, may return a function that
   * edits the offer's SDP. report({ state, words, retryAt }): state is "idle", "connecting",
   * "live", "interrupted", "waiting" (until retryAt, a performance.now()) or "failed" (needs a
   * person).
   */
  constructor(role, prepare, report) {
    Object.assign(this, { role, prepare, report });
    this.pc = null;
    this.stream = null;
    this.failures = 0;
    this.timers = new Set();
  }

  start(stream) {
    this.stop();
    this.stream = stream;
    this.failures = 0;
    this.connect();
  }

  /** Ends the session, also while the page is going away. */
  stop() {
    this.stream = null;
    this.drop();
    this.report({ state: 'idle', words: '' });
  }

  /** Gives up on this connection and tries again, `words` say why. */
  again(words) {
    this.drop();
    this.wait(words, 0);
  }

  drop() {
    this.timers.forEach(clearTimeout);
    this.timers.clear();
    this.abort?.abort();
    if (this.pc) {
      this.pc.onconnectionstatechange = null;
      this.pc.close();
      this.pc = null;
    }
    hangUp(this.resource);
    this.resource = null;
  }

  later(ms, action) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, ms);
    this.timers.add(timer);
    return () => {
      clearTimeout(timer);
      this.timers.delete(timer);
    };
  }

  wait(words, least) {
    const step = BACKOFF_MS[Math.min(this.failures++, BACKOFF_MS.length - 1)];
    const ms = Math.max(least * 1000, step) * (0.9 + 0.2 * Math.random());
    this.report({ state: 'waiting', words, retryAt: performance.now() + ms });
    this.later(ms, () => this.connect());
  }

  async connect() {
    const { stream } = this;
    const abort = new AbortController();
    this.abort = abort;
    this.report({ state: 'connecting', words: '' });
    try {
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: [] });
      this.pc = pc;
      const edit = this.prepare(pc);
      const offer = await pc.createOffer();
      if (edit) offer.sdp = edit(offer.sdp);
      await pc.setLocalDescription(offer);
      const { answer, resource } = await negotiate(this.role, stream, pc.localDescription.sdp, abort.signal);
      if (abort.signal.aborted) {
        hangUp(resource);
        return;
      }
      this.resource = resource;
      this.watch(pc);
      await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    } catch (error) {
      if (abort.signal.aborted) return;
      this.drop();
      const words = explain(error, this.role, stream);
      if (isPassing(error)) this.wait(words, error.retryAfter ?? 0);
      else this.report({ state: 'failed', words, status: error.status });
    }
  }

  watch(pc) {
    let forgive = this.later(CONNECT_MS, () => this.again(
      'No media gets through. Is UDP blocked between this browser and the server?'));
    pc.onconnectionstatechange = () => {
      const state = pc.connectionState;
      if (state === 'connecting' || state === 'new') return;
      forgive();
      if (state === 'connected') {
        forgive = this.later(STABLE_MS, () => { this.failures = 0; });
        this.report({ state: 'live', words: '' });
      } else if (state === 'disconnected') {
        this.report({ state: 'interrupted', words: 'The connection is interrupted.' });
        forgive = this.later(INTERRUPTED_MS, () => this.again('The connection was lost.'));
      } else this.again(state === 'closed' ? 'The server ended the session.' : 'The connection was lost.');
    };
  }
}
