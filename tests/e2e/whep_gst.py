#!/usr/bin/python3
"""A WHEP viewer that is no browser: GStreamer's webrtcbin receives, decodes and counts.

Usage: whep_gst.py URL --frames N [--timeout S] [--token T] [--silent]
Prints {"frames": N, "audio_buffers": N, "first_ms": N, "caps": "..."} and exits 0 once N frames were decoded
and sound has arrived (--silent: the stream has none, the offer asks for it all the same). The offer carries no candidates and nothing trickles.
"""
import argparse
import json
import sys
import time
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

OPUS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2"
VIDEO = (
    "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,"
    "rtcp-fb-nack=true,rtcp-fb-nack-pli=true;"
    "application/x-rtp,media=video,encoding-name=H264,payload=102,clock-rate=90000,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack=true,rtcp-fb-nack-pli=true"
)


class Viewer:
    def __init__(self, args):
        self.args, self.loop, self.error, self.resource = args, GLib.MainLoop(), None, None
        self.counts = {"video": 0, "audio": 0}
        self.first, self.caps, self.start = None, "", time.monotonic()
        self.pipeline = Gst.Pipeline.new()
        self.bin = Gst.ElementFactory.make("webrtcbin")
        self.bin.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.bin)
        self.bin.connect("pad-added", self.on_pad)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _bus, message: self.fail(message.parse_error()[0].message))

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        for caps in (OPUS, VIDEO):
            self.bin.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY,
                          Gst.Caps.from_string(caps))
        self.bin.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))
        GLib.timeout_add_seconds(self.args.timeout, lambda: self.fail(f"only {self.counts} in time"))
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        if self.resource:
            self.request(self.resource, "DELETE").close()
        print(json.dumps({"frames": self.counts["video"], "audio_buffers": self.counts["audio"],
                          "first_ms": self.first, "caps": self.caps}))
        if self.error:
            print(self.error, file=sys.stderr)
        return 1 if self.error else 0

    def fail(self, why):
        self.error = self.error or why
        self.loop.quit()
        return False

    def request(self, url, method, body=None):
        headers = {"Content-Type": "application/sdp"}
        if self.args.token:
            headers["Authorization"] = "Bearer " + self.args.token
        return urllib.request.urlopen(
            urllib.request.Request(url, data=body, method=method, headers=headers), timeout=8)

    def on_offer(self, promise):
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        body = offer.sdp.as_text().encode()  # webrtcbin takes the description over
        self.bin.emit("set-local-description", offer, Gst.Promise.new())
        try:
            with self.request(self.args.url, "POST", body) as response:
                self.resource = urllib.parse.urljoin(response.url, response.headers["Location"])
                text = response.read().decode()
        except OSError as error:
            GLib.idle_add(self.fail, f"POST: {error}")
            return
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.bin.emit("set-remote-description", answer, Gst.Promise.new())

    def on_pad(self, _bin, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        decode = Gst.ElementFactory.make("decodebin")
        decode.connect("pad-added", self.on_decoded)
        self.pipeline.add(decode)
        decode.sync_state_with_parent()
        pad.link(decode.get_static_pad("sink"))

    def on_decoded(self, _decode, pad):
        kind = pad.get_current_caps().get_structure(0).get_name().split("/")[0]
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("sync", False)
        sink.connect("handoff", self.on_buffer, kind)
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))
        if kind == "video":
            self.caps = pad.get_current_caps().to_string()[:80]

    def on_buffer(self, _sink, _buffer, _pad, kind):
        self.counts[kind] += 1
        if kind == "video" and self.first is None:
            self.first = round(1000 * (time.monotonic() - self.start))
        if self.counts["video"] >= self.args.frames and (self.args.silent or self.counts["audio"] > 0):
            self.loop.quit()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--timeout", type=int, default=25)
    parser.add_argument("--token")
    parser.add_argument("--silent", action="store_true")
    Gst.init(None)
    sys.exit(Viewer(parser.parse_args()).run())


if __name__ == "__main__":
    main()
