// getStats of a peer connection, reduced to what the pages show: rates over the time since the
// last sample, totals, and which candidate pair the media really takes.

const delta = (now, before, key) => Math.max(0, (now?.[key] ?? 0) - (before?.[key] ?? 0));
const name = (codec) => codec?.mimeType?.split('/')[1] ?? null;

function endpoint(candidate) {
  if (!candidate) return null;
  const address = candidate.address ?? candidate.ip ?? '';
  return address.includes(':') ? `[${address}]:${candidate.port}` : `${address}:${candidate.port}`;
}

/** Samples one peer connection; keep one per connection. */
export class Sampler {
  constructor(pc) {
    this.pc = pc;
    this.last = new Map();
  }

  /** Resolves to { at, rtt, path, video, audio } for the side that receives ("in") or sends ("out"). */
  async sample(side) {
    const report = await this.pc.getStats();
    const all = [...report.values()];
    const type = side === 'in' ? 'inbound-rtp' : 'outbound-rtp';
    const find = (kind) => all.find((s) => s.type === type && s.kind === kind && !s.rid) ??
      all.find((s) => s.type === type && s.kind === kind);
    const path = this.path(report, all);
    const media = (kind) => {
      const now = find(kind);
      if (!now) return null;
      const figures = side === 'in' ? this.inbound(now, report) : this.outbound(now, report, all);
      this.last.set(now.id, now);
      return figures;
    };
    const sample = { at: performance.now(), rtt: path.rtt, path, video: media('video'), audio: media('audio') };
    all.filter((s) => s.type === 'candidate-pair').forEach((s) => this.last.set(s.id, s));
    return sample;
  }

  /** Where the media comes from: the pair whose bytes grow most, chosen by ICE or not. */
  path(report, all) {
    const transport = all.find((s) => s.type === 'transport');
    const pairs = all.filter((s) => s.type === 'candidate-pair');
    const selected = report.get(transport?.selectedCandidatePairId) ??
      pairs.find((s) => s.selected) ?? pairs.find((s) => s.nominated && s.state === 'succeeded');
    const heard = (pair) => delta(pair, this.last.get(pair.id), 'bytesReceived');
    const busiest = pairs.reduce((best, pair) => (heard(pair) > (best ? heard(best) : 0) ? pair : best), null);
    const remotes = new Set(all.filter((s) => s.type === 'remote-candidate').map(endpoint));
    return {
      from: endpoint(report.get((busiest ?? selected)?.remoteCandidateId)),
      to: endpoint(report.get(selected?.remoteCandidateId)),
      local: endpoint(report.get(selected?.localCandidateId)),
      candidates: [...remotes],
      rtt: selected?.currentRoundTripTime ?? null,
    };
  }

  inbound(now, report) {
    const before = this.last.get(now.id);
    const seconds = before ? (now.timestamp - before.timestamp) / 1000 : 0;
    const received = delta(now, before, 'packetsReceived');
    const lost = Math.max(0, (now.packetsLost ?? 0) - (before?.packetsLost ?? 0));
    const emitted = delta(now, before, 'jitterBufferEmittedCount');
    return {
      bitrate: seconds ? (8 * delta(now, before, 'bytesReceived')) / seconds : 0,
      loss: received + lost ? lost / (received + lost) : 0,
      buffered: emitted ? delta(now, before, 'jitterBufferDelay') / emitted : null,
      fps: now.framesPerSecond ?? (seconds ? delta(now, before, 'framesDecoded') / seconds : 0),
      width: now.frameWidth ?? 0,
      height: now.frameHeight ?? 0,
      decoded: now.framesDecoded ?? 0,
      dropped: now.framesDropped ?? 0,
      freezes: now.freezeCount ?? 0,
      frozen: now.totalFreezesDuration ?? 0,
      packets: now.packetsReceived ?? 0,
      lost: now.packetsLost ?? 0,
      again: now.retransmittedPacketsReceived ?? 0,
      nacks: now.nackCount ?? 0,
      energy: now.totalAudioEnergy ?? 0,
      concealed: (now.concealedSamples ?? 0) - (now.silentConcealedSamples ?? 0),
      heard: now.lastPacketReceivedTimestamp ?? null,
      codec: name(report.get(now.codecId)),
    };
  }

  outbound(now, report, all) {
    const before = this.last.get(now.id);
    const seconds = before ? (now.timestamp - before.timestamp) / 1000 : 0;
    const remote = all.find((s) => s.type === 'remote-inbound-rtp' && s.localId === now.id);
    return {
      bitrate: seconds ? (8 * delta(now, before, 'bytesSent')) / seconds : 0,
      fps: now.framesPerSecond ?? 0,
      width: now.frameWidth ?? 0,
      height: now.frameHeight ?? 0,
      encoded: now.framesEncoded ?? 0,
      packets: now.packetsSent ?? 0,
      again: now.retransmittedPacketsSent ?? 0,
      keyframes: now.keyFramesEncoded ?? 0,
      asked: now.pliCount ?? 0,
      limited: now.qualityLimitationReason ?? 'none',
      encoder: now.encoderImplementation ?? null,
      loss: remote?.fractionLost ?? null,
      codec: name(report.get(now.codecId)),
    };
  }
}

/** 1234567 -> "1.2 Mbit/s". */
export function bitrateText(bits) {
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(bits >= 1e7 ? 0 : 1)} Mbit/s`;
  return `${Math.round(bits / 1000)} kbit/s`;
}

/** 0.0123 -> "1.2 %"; a loss too small to print is not none. */
export function percentText(part) {
  if (!part) return '0 %';
  return part < 0.001 ? '< 0.1 %' : `${(100 * part).toFixed(1)} %`;
}

/** Milliseconds -> "85 ms" or "1.4 s". */
export function durationText(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0)} s`;
}
