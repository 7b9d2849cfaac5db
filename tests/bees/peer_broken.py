#!/usr/bin/python3
"""A WHEP server that answers each path wrong in another way, to try the load tester's failures against.

Usage: peer_broken.py PORT   (127.0.0.1; POST to one of the paths in ANSWERS)
"""
import http.server
import re
import sys
import time

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
PRINT = ":".join(["AB"] * 32)


def answer(offer, candidates, port=9):
    """An answer to the offer's m-lines, right but for its candidates, which lead nowhere."""
    text = HEAD
    for m, line in enumerate(re.findall(r"m=(\w+) .*", offer)):
        audio = line == "audio"
        pt, codec = (111, "opus/48000/2") if audio else (96, "VP8/90000")
        text += (
            f"m={line} {port} UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=mid:{m}\r\na=sendonly\r\n"
            f"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijkl\r\na=fingerprint:sha-256 {PRINT}\r\n"
            f"a=setup:passive\r\na=rtcp-mux\r\na=rtpmap:{pt} {codec}\r\n" + (candidates if m == 0 else ""))
    return text


def candidate(address):
    return f"a=candidate:1 1 udp 2130706431 {address} 9 typ host\r\n"


ANSWERS = {
    "nonsense": lambda offer: (201, "\0\1\2\3 \xff" * 100),
    "empty": lambda offer: (201, ""),
    "html": lambda offer: (201, "<html><body>It works!</body></html>"),
    "rejected": lambda offer: (201, answer(offer, "", 0)),
    "nowhere": lambda offer: (201, answer(offer, "")),
    "outside": lambda offer: (201, answer(offer, candidate("8.8.8.8"))),
    "silent": lambda offer: (201, answer(offer, candidate("127.0.0.1"))),
    "elsewhere": lambda offer: (201, answer(offer, candidate("127.0.0.1"))),
    "ok200": lambda offer: (200, answer(offer, candidate("127.0.0.1"))),
    "token": lambda offer: (401, "no"),
    "busy": lambda offer: (503, "full"),
    "later": lambda offer: (503, "full for now"),
    "notyet": lambda offer: (409, "nobody publishes this yet"),
    "teapot": lambda offer: (418, "short and stout"),
    "loop": lambda offer: (307, ""),
    "away": lambda offer: (308, ""),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.reply(200, "ready")

    do_DELETE = do_GET

    def do_POST(self):
        name = self.path.strip("/")
        offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if name == "hang":
            time.sleep(6)
        elif name == "cut":
            self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\nv=0")
            self.close_connection = True
        elif name == "endless":
            self.endless()
        else:
            self.reply(*ANSWERS[name](offer), "http://192.0.2.1/session/1" if name == "elsewhere" else "/session/1")

    def endless(self):
        self.wfile.write(b"HTTP/1.1 201 Created\r\n\r\n")
        self.close_connection = True
        try:
            for _ in range(1000):
                self.wfile.write(b"a=" + b"x" * 4000 + b"\r\n")
        except OSError:
            pass  # the client has had enough

    def reply(self, status, text, session="/session/1"):
        body = text.encode("latin-1")
        self.send_response(status)
        self.send_header("Content-Type", "application/sdp")
        self.send_header("Content-Length", str(len(body)))
        if self.path in ("/later", "/notyet"):
            self.send_header("Retry-After", "1")
        self.send_header("Location", {307: "/loop", 308: "http://192.0.2.1/whep"}.get(status, session))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # all come at once; a SYN that finds no room is sent again a second later


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
