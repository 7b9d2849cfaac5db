#!/usr/bin/python3
"""A small independent WHIP/WHEP server (aiortc), to try the pages, the load tester and other clients against.

POST /whip/{stream} takes a stream in, POST /whep/{stream} gives it out again (decoded and encoded anew by
aiortc, so it is no reference for speed); a stream that nobody publishes and that --generate names is a moving
test picture with a tone. It learns its client's candidates from checks, like an ICE-lite server.

Limits: no trickle (PATCH is accepted and ignored), no ICE restart, no simulcast, one process, one loop.
Needs Debian's python3-aiortc and python3-aiohttp.
"""
import argparse
import asyncio
import fractions
import ipaddress
import json
import logging
import math
import mimetypes
import pathlib
import secrets
import ssl
import time

import aioice.ice
import av
import numpy
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamTrack

log = logging.getLogger("peer")
CSP = "default-src 'self'; media-src 'self' blob:; connect-src 'self' blob:"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Expose-Headers": "Location, Link, ETag, Retry-After",
    "Accept-Post": "application/sdp",
}


class TestPicture(MediaStreamTrack):
    """Moving gradient, WIDTH x HEIGHT at FPS."""

    kind = "video"

    def __init__(self, width, height, fps):
        super().__init__()
        self.fps, self.count, self.start = fps, 0, None
        x = numpy.arange(width, dtype=numpy.uint16)
        y = numpy.arange(height, dtype=numpy.uint16)[:, None]
        self.base = ((x + y) % 256).astype(numpy.uint8)

    async def recv(self):
        self.start = self.start or time.monotonic()
        await asyncio.sleep(max(0, self.start + self.count / self.fps - time.monotonic()))
        plane = numpy.roll(self.base, 4 * self.count, axis=1)
        frame = av.VideoFrame.from_ndarray(numpy.dstack([plane, plane[::-1], 255 - plane]), format="rgb24")
        frame.pts, frame.time_base = self.count * 90000 // self.fps, fractions.Fraction(1, 90000)
        self.count += 1
        return frame


class TestTone(MediaStreamTrack):
    """A 440 Hz tone, 48 kHz mono in 20 ms frames."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.count, self.start = 0, None

    async def recv(self):
        self.start = self.start or time.monotonic()
        await asyncio.sleep(max(0, self.start + self.count / 48000 - time.monotonic()))
        at = (numpy.arange(960) + self.count) * (2 * math.pi * 440 / 48000)
        samples = (numpy.sin(at) * 4000).astype(numpy.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self.count, fractions.Fraction(1, 48000)
        self.count += 960
        return frame


class Peer:
    def __init__(self, args):
        self.args = args
        self.relay = MediaRelay()
        self.streams = {}  # name -> {"audio": track, "video": track, "viewers": int}
        self.sessions = {}  # token -> peer connection
        for name in args.generate:
            self.streams[name] = {
                "audio": TestTone(), "video": TestPicture(args.width, args.height, args.fps), "viewers": 0}

    def refuse(self, request):
        """The response that a request gets instead of service, or None."""
        wanted = self.args.token
        if wanted and not secrets.compare_digest(
                request.headers.get("Authorization", ""), "Bearer " + wanted):
            return web.Response(status=401, text="a bearer token is needed",
                                headers={**CORS, "WWW-Authenticate": "Bearer"})
        if request.method == "POST" and self.args.busy > 0:
            self.args.busy -= 1
            return web.Response(status=503, text="busy for a moment", headers={**CORS, "Retry-After": "1"})
        if request.method == "POST" and request.content_type != "application/sdp":
            return web.Response(status=415, text="the body must be application/sdp", headers=CORS)
        return None

    async def post(self, request):
        role, name = request.match_info["role"], request.match_info["stream"]
        if self.args.redirect and "redirected" not in request.query:
            return web.Response(status=307, headers={**CORS, "Location": f"/{role}/{name}?redirected"})
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if role == "whep" and name not in self.streams:
            return web.Response(status=409, text="nobody publishes this stream",
                                headers={**CORS, "Retry-After": "2"})
        pc, token = RTCPeerConnection(), secrets.token_urlsafe(20)
        if role == "whip":
            self.publish(pc, name)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
            if role == "whep":
                self.play(pc, name)
            for transceiver in pc.getTransceivers() if self.args.setup == "passive" else []:
                transceiver._transport._set_role("server")
            await pc.setLocalDescription(await pc.createAnswer())
        except Exception as error:  # whatever the offer made aiortc stumble over
            await pc.close()
            return web.Response(status=400, text=f"{type(error).__name__}: {error}", headers=CORS)
        self.sessions[token] = pc

        @pc.on("connectionstatechange")
        async def changed():
            log.info("%s %s %s", role, name, pc.connectionState)
            if pc.connectionState == "failed":
                await self.end(token)

        location = f"/session/{token}"
        if not self.args.relative:
            location = f"{request.scheme}://{request.host}{location}"
        return web.Response(status=201, text=pc.localDescription.sdp, content_type="application/sdp",
                            headers={**CORS, "Location": location, "ETag": f'"{token[:8]}"'})

    def publish(self, pc, name):
        entry = {"audio": None, "video": None, "viewers": 0}

        @pc.on("track")
        def track(track):
            entry[track.kind] = track
            self.streams[name] = entry

            @track.on("ended")
            def ended():
                if self.streams.get(name) is entry:
                    del self.streams[name]

    def play(self, pc, name):
        entry = self.streams[name]
        for transceiver in pc.getTransceivers():
            if entry[transceiver.kind]:
                pc.addTrack(self.relay.subscribe(entry[transceiver.kind], buffered=False))
        entry["viewers"] += 1

        @pc.on("connectionstatechange")
        def gone():
            if pc.connectionState in ("closed", "failed"):
                entry["viewers"] -= 1

    async def end(self, token):
        pc = self.sessions.pop(token, None)
        if pc:
            await pc.close()
        return pc is not None

    async def session(self, request):
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if request.match_info["token"] not in self.sessions:
            return web.Response(status=404, text="no such session", headers=CORS)
        if request.method == "DELETE":
            await self.end(request.match_info["token"])
            return web.Response(status=200, headers=CORS)
        return web.Response(status=204, headers=CORS)

    async def options(self, _request):
        return web.Response(status=204, headers=CORS)

    async def list_streams(self, _request):
        rows = [{"name": name, "live": True, "viewers": entry["viewers"],
                 "audio": "opus" if entry["audio"] else None, "video": "vp8" if entry["video"] else None}
                for name, entry in self.streams.items()]
        return web.Response(text=json.dumps({"streams": rows}), content_type="application/json")

    async def page(self, request):
        names = {"/": "index.html", "/publish": "publish.html"}
        name = names.get(request.path) or request.match_info["file"]
        file = pathlib.Path(self.args.web) / name
        if "/" in name or not file.is_file():
            return web.Response(status=404, text="no such page")
        kind = {".js": "text/javascript", ".svg": "image/svg+xml"}.get(
            file.suffix, mimetypes.guess_type(name)[0])
        return web.Response(body=file.read_bytes(), content_type=kind, headers={
            "Content-Security-Policy": CSP, "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff"})

    def application(self):
        app = web.Application(client_max_size=256 * 1024)
        app.router.add_post("/{role:whip|whep}/{stream}", self.post)
        app.router.add_route("OPTIONS", "/{any:.*}", self.options)
        app.router.add_route("*", "/session/{token}", self.session)
        app.router.add_get("/api/streams", self.list_streams)
        if self.args.web:
            app.router.add_get("/", self.page)
            app.router.add_get("/publish", self.page)
            app.router.add_get("/assets/{file}", self.page)
        return app


def behave_like_lite(addresses):
    """Our candidates are `addresses`; a client that sends none is learnt from its first check."""
    def host_addresses(use_ipv4, use_ipv6):
        return [a for a in addresses if (use_ipv6 if ":" in a else use_ipv4)]

    connect = aioice.ice.Connection.connect

    async def patient_connect(self):
        until = time.monotonic() + 15
        while not (self._remote_candidates or self._early_checks) and time.monotonic() < until:
            await asyncio.sleep(0.005)
        await connect(self)

    aioice.ice.get_host_addresses = host_addresses
    aioice.ice.Connection.connect = patient_connect


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bind", action="append", metavar="IP",
                        help="address for HTTP and media, repeatable (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8090, help="HTTP port (8090)")
    parser.add_argument("--token", help="bearer token that every request must carry")
    parser.add_argument("--relative", action="store_true", help="answer with a relative Location")
    parser.add_argument("--busy", type=int, default=0, metavar="N",
                        help="answer the first N POSTs with 503 and Retry-After")
    parser.add_argument("--redirect", action="store_true", help="answer the first POST with 307")
    parser.add_argument("--setup", choices=["active", "passive"], default="active",
                        help="DTLS role that answers take: client (active) or server (passive)")
    parser.add_argument("--certificate", metavar="FILE", help="serve HTTPS with this chain and --key")
    parser.add_argument("--key", metavar="FILE")
    parser.add_argument("--generate", action="append", default=[], metavar="STREAM",
                        help="a stream that is a generated test picture, repeatable")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--web", metavar="DIR", help="serve the pages in DIR as our control plane does")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING)
    args.bind = args.bind or ["127.0.0.1"]
    for address in args.bind:
        ipaddress.ip_address(address)
    behave_like_lite(args.bind)
    tls = None
    if args.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(args.certificate, args.key)
    web.run_app(Peer(args).application(), host=args.bind, port=args.port, print=None, ssl_context=tls,
                access_log=log if args.verbose else None)


if __name__ == "__main__":
    main()
