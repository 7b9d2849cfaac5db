#!/usr/bin/python3
"""An attacker's machine: sends the node everything it should refuse, and checks that each refusal is the documented
HTTP status or a named drop counter, that nothing is answered to whom has no right to an answer, and that nothing breaks.

Usage: hostile.py BASE_URL VICTIM_STREAM    (run by scenarios.mjs; needs root, and HL_CTL, HL_SOCKET, HL_TOKEN)
Prints TAP-like lines; exits 0 if all are ok. Needs Debian's python3-aiortc.
"""
import asyncio
import binascii
import hmac
import http.client
import json
import os
import random
import re
import resource
import socket
import struct
import subprocess
import sys
import time
import urllib.parse

from aioice.ice import Connection
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

BASE = urllib.parse.urlsplit(sys.argv[1])
VICTIM = sys.argv[2]
TOKEN = {"Authorization": "Bearer " + os.environ["HL_TOKEN"]}
SDP = {"Content-Type": "application/sdp"}
SECOND_ADDRESS = "10.77.0.67"  # ours too: one that holds no connections
HALF_OPEN = 1000
ANSWER_S = 2.0
HELLO = b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", 200)  # a DTLS handshake record of 200 bytes
random.seed(7)
failed = 0


def ok(good, name, detail=""):
    global failed
    failed += not good
    print(f"{'ok' if good else 'not ok'} - hostile: {name}{f' ({detail})' if detail != '' else ''}", flush=True)


# --- the node's own view ------------------------------------------------------------------------


def show(what):
    out = subprocess.run([os.environ["HL_CTL"], "-s", os.environ["HL_SOCKET"], "-j", "show", what],
                         check=True, capture_output=True, timeout=10).stdout
    return json.loads(out)[what]


def drops():
    return {row["name"]: row["packets"] for row in show("drops")}


def wait_drops(before, names, at_least):
    """The rise of the named counters together, once it is large enough or no longer may become so."""
    end = time.monotonic() + 3
    while True:
        now = drops()
        rise = sum(now[n] - before[n] for n in names or now)
        if rise >= at_least or time.monotonic() > end:
            return rise
        time.sleep(0.1)


def counted(name, send, sent, names):
    """`send` provokes `sent` drops that the counters `names` (all, if empty) must show."""
    before = drops()
    send()
    rise = wait_drops(before, names, sent)
    ok(rise >= sent, f"{name} counts as {' or '.join(names) or 'drops with a name'}", f"{rise} of {sent}")


# --- HTTP -----------------------------------------------------------------------------------------


def request(method, path, body=None, headers=None, source=None):
    connection = http.client.HTTPConnection(BASE.hostname, BASE.port, timeout=8, source_address=source and (source, 0))
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read().decode(errors="replace")
    finally:
        connection.close()


def status(name, wanted, *args, **kwargs):
    try:
        got = request(*args, **kwargs)[0]
    except OSError as error:
        got = repr(error)
    ok(got == wanted, f"{name} gets {wanted}", "" if got == wanted else got)


def bad_requests(offer):
    status("an SDP of 1 MB", 413, "POST", f"/whep/{VICTIM}", b"v=0\r\n" + b"a=x\r\n" * 200000, SDP)
    status("an SDP of 1 MB to publish", 413, "POST", "/whip/own", b"v=0\r\n" * 200000, {**SDP, **TOKEN})
    status("a wrong content type", 415, "POST", f"/whep/{VICTIM}", offer, {"Content-Type": "text/plain"})
    status("a wrong token", 401, "POST", "/whip/own", offer, {**SDP, "Authorization": "Bearer not-the-token"})
    status("no token", 401, "POST", "/whip/own", offer, SDP)
    status("a stolen stream", 409, "POST", f"/whip/{VICTIM}", offer.replace("recvonly", "sendonly"), {**SDP, **TOKEN})
    status("no SDP at all", 400, "POST", f"/whep/{VICTIM}", bytes(range(256)) * 4, SDP)
    status("an empty offer", 400, "POST", f"/whep/{VICTIM}", b"", SDP)
    alien = re.sub(r"(a=rtpmap:\d+) [A-Za-z0-9]+/", r"\1 THEORA/", offer)
    status("an offer with no common codec", 406, "POST", f"/whep/{VICTIM}", alien, SDP)
    status("a publisher with no common codec", 422, "POST", "/whip/own", alien.replace("recvonly", "sendonly"), {**SDP, **TOKEN})
    status("a stream that is not live", 409, "POST", "/whep/nobody", offer, SDP)
    status("a session that never was", 404, "DELETE", "/session/" + "a" * 32)
    status("a path that climbs", 404, "GET", "/assets/..%2f..%2f..%2fetc%2fpasswd")
    status("a method that does not fit", 405, "PUT", f"/whep/{VICTIM}", b"", SDP)


def half_open():
    """Connections that begin a request and never end it; others must be served meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    held = []
    for _ in range(HALF_OPEN):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((BASE.hostname, BASE.port))
        held.append(s)
    time.sleep(0.5)
    sent = 0
    for s in held:
        try:
            s.send(b"POST /whep/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nContent-Ty")
            sent += 1
        except OSError:
            pass  # the node closed it: also an answer
    started = time.monotonic()
    try:
        got = request("GET", "/api/streams", source=SECOND_ADDRESS)[0]
    except OSError as error:
        got = repr(error)
    took = time.monotonic() - started
    ok(got == 200 and took < ANSWER_S, f"with {HALF_OPEN} half-open connections others are served",
       f"{got} after {took * 1000:.0f} ms, {sent} connections held")
    for s in held:
        s.close()
    time.sleep(0.3)
    status("the attacker himself, once he let go,", 200, "GET", "/api/streams")


# --- UDP ------------------------------------------------------------------------------------------


def udp(address):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.4)
    return s


def answered(s):
    try:
        return s.recv(2048)
    except OSError:
        return None


def silent(name, s):
    reply = answered(s)
    ok(reply is None, f"{name} is not answered", "" if reply is None else reply[:16].hex())


def paced(s, address, datagrams):
    """Slow enough that no queue on the way is the one that drops."""
    for i, datagram in enumerate(datagrams):
        s.sendto(datagram, address)
        if i % 32 == 31:
            time.sleep(0.005)


def garbage(media):
    for address in media:
        s = udp(address[0])
        datagrams = [random.randbytes(random.randint(1, 1400)) for _ in range(1000)]
        counted(f"garbage on {address[0]} port {address[1]}", lambda: paced(s, address, datagrams), 1000, [])
        for first, names in ((5, ["class_unknown"]), (0, ["stun_malformed", "stun_ignored"]),
                             (22, ["dtls_no_path"]), (128, ["rtp_no_path", "rtp_malformed"])):
            typed = [bytes([first]) + random.randbytes(200) for _ in range(20)]
            counted(f"garbage that begins with {first} from {address[0].count(':') and 'IPv6' or 'IPv4'}",
                    lambda: paced(s, address, typed), 20, names)
        silent(f"garbage on {address[0]}", s)
        s.close()
        for port in [1, 53, 443, 6999, 7001, 8080, 65535]:
            with udp(address[0]) as other:
                other.sendto(b"\x16" * 100, (address[0], port))


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def sealed(kind, transaction, body, password):
    """A STUN message with MESSAGE-INTEGRITY and FINGERPRINT."""
    head = struct.pack("!HHI", kind, len(body) + 24, 0x2112A442) + transaction
    body += attribute(0x0008, hmac.new(password.encode(), head + body, "sha1").digest())
    head = head[:2] + struct.pack("!H", len(body) + 8) + head[4:]
    crc = binascii.crc32(head + body) ^ 0x5354554E
    return head + body + attribute(0x8028, struct.pack("!I", crc))


def stun(user, password, priority=1, nominate=False):
    """A binding request of RFC 8445."""
    body = attribute(0x0006, user.encode()) + attribute(0x0024, struct.pack("!I", priority))
    body += attribute(0x802A, random.randbytes(8)) + (attribute(0x0025, b"") if nominate else b"")
    return sealed(1, random.randbytes(12), body, password)


def pick(text, key):
    return re.search(rf"a={key}:(\S+)", text).group(1)


def bad_checks(offer, media):
    code, headers, answer = request("POST", f"/whep/{VICTIM}", offer, SDP)
    ok(code == 201, "an honest viewer is let in", code)
    if code != 201:
        return
    user = f"{pick(answer, 'ice-ufrag')}:{pick(offer, 'ice-ufrag')}"
    password = pick(answer, "ice-pwd")
    s, address = udp(media[0][0]), media[0]
    wrong = [stun(user, "x" * 24) for _ in range(20)]
    counted("a check with a wrong password", lambda: paced(s, address, wrong), 20, ["stun_bad_integrity"])
    right = stun(user, password)
    flipped = right[:-1] + bytes([right[-1] ^ 1])
    counted("a check with a wrong fingerprint", lambda: paced(s, address, [flipped] * 20), 20,
            ["stun_bad_integrity", "stun_malformed"])
    counted("a check of an unknown user", lambda: paced(s, address, [stun("nobody00:x", password)] * 20), 20,
            ["stun_unknown_user"])
    cut = [right[:n] for n in range(1, len(right) - 1, 4)]
    counted("checks cut short", lambda: paced(s, address, cut), len(cut), [])
    silent("a wrong check", s)
    hello = HELLO + random.randbytes(200)
    counted("DTLS from an address with no check", lambda: paced(s, address, [hello] * 20), 20, ["dtls_no_path"])
    silent("DTLS without a check", s)
    s.sendto(right, address)
    reply = answered(s)
    ok(reply is not None and reply[:2] == b"\x01\x01", "the right password is answered", reply and reply[:2].hex())
    counted("SRTP before DTLS", lambda: paced(s, address, [b"\x80\x60" + random.randbytes(100)] * 20), 20, ["rtp_no_keys"])
    paced(s, address, [HELLO + random.randbytes(200) for _ in range(50)])
    request("DELETE", urllib.parse.urlsplit(headers["Location"]).path)


def lies(media):
    """IPv4 packets whose UDP length is more than there is, made by hand."""
    host, port = media[0]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def packet(source, sport, payload, claimed=None):
        size = 8 + len(payload)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + size, 0, 0, 64, 17, 0,
                           socket.inet_aton(source), socket.inet_aton(host))
        return head + struct.pack("!HHHH", sport, port, claimed or size, 0) + payload

    me = "10.77.0.66"
    counted("a UDP length that lies", lambda: [raw.sendto(packet(me, 4000, b"\x80" * 50, 2000), (host, 0)) for _ in range(20)],
            20, ["ip_truncated"])
    victims = [s for s in show("sessions") if s["stream"] == VICTIM and s.get("remote")]
    ok(victims != [], "the victims' addresses are known", len(victims))
    forged = 0
    before = drops()
    for session in victims:
        source, _, sport = session["remote"].rpartition(":")
        if "[" in source:
            continue
        for i in range(200):
            rtp = struct.pack("!BBHII", 0x80, 96, i, i, 0x12345678) + random.randbytes(300)
            raw.sendto(packet(source, int(sport), rtp), (host, 0))
            if i % 10 == 0:  # epoch 0: an alert that says close_notify, then nonsense
                for record in (b"\x15\xfe\xfd" + bytes(8) + b"\0\2\1\0", HELLO + random.randbytes(200)):
                    raw.sendto(packet(source, int(sport), record), (host, 0))
            rtcp = struct.pack("!BBHI", 0x81, 201, 7, 1) + random.randbytes(60)
            raw.sendto(packet(source, int(sport), rtcp), (host, 0))
            forged += 2
            if i % 16 == 15:
                time.sleep(0.005)
    names = ["srtp_auth", "srtcp_auth", "rtp_unknown_ssrc", "rtp_from_viewer"]
    rise = wait_drops(before, names, forged)
    ok(rise >= forged > 0, f"media forged in the victims' names counts as {' or '.join(names)}", f"{rise} of {forged}")


# --- SRTP -----------------------------------------------------------------------------------------


async def srtp():
    """Publishes as an honest client and sends each packet again, and once more with a bit turned."""
    sent = {"media": 0, "control": 0}
    honest_send = Connection.send

    async def send(self, data):
        # The corrupted one goes first: a replay window that it moved would lose the honest one.
        control = 128 <= data[0] <= 191 and 192 <= data[1] <= 223
        attack = 128 <= data[0] <= 191 and (control or sent["media"] < 150)
        if attack:
            await honest_send(self, data[:-15] + bytes([data[-15] ^ 1]) + data[-14:])
        await honest_send(self, data)
        if attack:
            await honest_send(self, data)
            sent["control" if control else "media"] += 1

    before = drops()
    Connection.send = send
    pc = RTCPeerConnection()
    pc.addTrack(VideoStreamTrack())
    pc.addTrack(AudioStreamTrack())
    await pc.setLocalDescription(await pc.createOffer())
    loop = asyncio.get_running_loop()
    code, headers, answer = await loop.run_in_executor(
        None, lambda: request("POST", "/whip/own", pc.localDescription.sdp, {**SDP, **TOKEN}))
    ok(code == 201, "an independent publisher (aiortc) is let in", code if code == 201 else answer.strip())
    if code == 201:
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for _ in range(80):
            await asyncio.sleep(0.1)
            if sent["media"] >= 150:
                break
        for name, kind in (("srtp_replay", "media"), ("srtp_auth", "media"),
                           ("srtcp_replay", "control"), ("srtcp_auth", "control")):
            what = ("replayed " if "replay" in name else "corrupted ") + name.split("_")[0].upper()
            rise = await loop.run_in_executor(None, wait_drops, before, [name], sent[kind])
            ok(rise >= sent[kind] > 0, f"{what} counts as {name}", f"{rise} of {sent[kind]}")
        live = [s for s in show("streams") if s["name"] == "own" and s["live"]]
        ok(len(live) == 1, "the stream lives on in spite of it")
        for _ in range(30):  # a session's figures come about once a second
            heard = sum(s["packets_in"] for s in show("sessions") if s["stream"] == "own")
            if heard >= sent["media"]:
                break
            await asyncio.sleep(0.1)
        ok(heard >= sent["media"], "each honest packet of it is taken", f"{heard} of {sent['media']} and more")
        await loop.run_in_executor(None, lambda: request("DELETE", urllib.parse.urlsplit(headers["Location"]).path, headers=TOKEN))
    Connection.send = honest_send
    await pc.close()


async def viewer_offer():
    """An honest offer to play, and the addresses that media goes to."""
    pc = RTCPeerConnection()
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="recvonly")
    pc.on("track", MediaBlackhole().addTrack)
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    await pc.close()
    return offer


def heard_in(s, seconds):
    """Everything that comes within a while, by the kind of datagram."""
    heard = {"stun": [], "media": [], "bytes": 0}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        datagram = answered(s)
        if datagram is None:
            break
        heard["bytes"] += len(datagram)
        heard["media" if 128 <= datagram[0] <= 191 else "stun"].append(datagram)
    return heard


def divert(user, password, own_password, address):
    """A viewer nominates an address that is not its own, as who can write any source address would."""
    victim = udp(address[0])
    victim.bind((SECOND_ADDRESS, 0))
    heard, sent = {"stun": [], "media": [], "bytes": 0}, 0
    for _ in range(8):
        check = stun(user, password, nominate=True)
        victim.sendto(check, address)
        sent += len(check)
        for kind, what in heard_in(victim, 0.3).items():
            heard[kind] += what
    ok(heard["media"] == [], "no media goes to an address that only a check names", f"{len(heard['media'])} packets")
    ok(0 < heard["bytes"] < 2 * sent, "and less than twice what was sent in its name", f"{heard['bytes']} for {sent} bytes")
    questions = [m for m in heard["stun"] if m[:2] == b"\0\1"]
    ok(questions != [], "it is asked instead", f"{len(questions)} requests")
    if questions:
        victim.sendto(sealed(0x0101, random.randbytes(12), b"", own_password), address)
        ok(heard_in(victim, 0.5)["media"] == [], "an answer to another question is none")
        victim.sendto(stun(user, password, nominate=True), address)
        questions = [m for m in heard_in(victim, 0.4)["stun"] if m[:2] == b"\0\1"] or questions
        victim.sendto(sealed(0x0101, questions[-1][8:20], b"", own_password), address)
        ok(heard_in(victim, 2)["media"] != [], "media goes there once it has answered")
    victim.close()


async def spoofed(media):
    pc = RTCPeerConnection()
    sink = MediaBlackhole()
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="recvonly")
    pc.on("track", sink.addTrack)
    await pc.setLocalDescription(await pc.createOffer())
    offer = pc.localDescription.sdp
    loop = asyncio.get_running_loop()
    code, headers, answer = await loop.run_in_executor(None, lambda: request("POST", f"/whep/{VICTIM}", offer, SDP))
    ok(code == 201, "a viewer (aiortc) is let in", code)
    if code == 201:
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for _ in range(80):
            if pc.connectionState == "connected":
                break
            await asyncio.sleep(0.1)
        ok(pc.connectionState == "connected", "and connected", pc.connectionState)
        user = f"{pick(answer, 'ice-ufrag')}:{pick(offer, 'ice-ufrag')}"
        await loop.run_in_executor(None, divert, user, pick(answer, "ice-pwd"), pick(offer, "ice-pwd"), media[0])
        await loop.run_in_executor(None, lambda: request("DELETE", urllib.parse.urlsplit(headers["Location"]).path))
    await pc.close()


def media_addresses(offer):
    _, headers, answer = request("POST", f"/whep/{VICTIM}", offer, SDP)
    request("DELETE", urllib.parse.urlsplit(headers["Location"]).path)
    found = re.findall(r"a=candidate:\S+ 1 \S+ \d+ (\S+) (\d+) typ host", answer)
    return sorted({(address, int(port)) for address, port in found}, key=lambda row: ":" in row[0])


def main():
    offer = asyncio.run(viewer_offer())
    media = media_addresses(offer)
    ok(len(media) == 2, "the answer names an IPv4 and an IPv6 candidate", media)
    bad_requests(offer)
    garbage(media)
    bad_checks(offer, media)
    lies(media)
    asyncio.run(srtp())
    asyncio.run(spoofed(media))
    half_open()
    print("# done")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
