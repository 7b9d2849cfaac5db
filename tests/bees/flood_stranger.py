#!/usr/bin/env python3
"""Forged trunk and BFD packets from somebody on the pair's link, in the partner's name, as many as
can be sent: trunk records that nobody sealed, BFD packets with a wrong key, from too far away, of no
session, broken ones, and the same from an address that nobody knows.

Usage: flood_stranger.py INTERFACE MAC VICTIM PARTNER SECONDS   (addresses IPv4; as root)
Prints {"sent": N}.
"""
import json
import random
import socket
import struct
import sys
import time

DISCRIMINATOR = 0x686C0000  # of a node's first partner (failover.c)


def checksum(head):
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(mac, source, target, sport, dport, payload, ttl=255):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, ttl, 17, 0,
                     socket.inet_aton(source), socket.inet_aton(target))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)  # no checksum (RFC 768)
    return mac + b"\x02\0\0\0\0\x66" + b"\x08\0" + ip + udp + payload


def trunk(index):
    head = struct.pack("!BBHII", 0x80, 127, index & 0xFFFF, index >> 16, 0x74720000)
    return head + random.randbytes(200)


def bfd(state, mine, yours, key=None):
    """RFC 5880 4.1, with meticulous keyed SHA1 (4.4) if there is a key."""
    length = 24 + (28 if key else 0)
    packet = struct.pack("!BBBBIIIII", 0x20, state << 6 | (4 if key else 0), 3, length, mine, yours,
                         10000, 10000, 0)
    return packet + (struct.pack("!BBBBI", 5, 28, 1, 0, random.getrandbits(32)) + key if key else b"")


def main():
    interface, mac, victim, partner, seconds = sys.argv[1:]
    mac = bytes.fromhex(mac.replace(":", ""))
    wrong = random.randbytes(20)
    frames = []
    for i in range(64):
        frames.append(frame(mac, partner, victim, 7000, 7000, trunk(random.getrandbits(48))))
        frames.append(frame(mac, partner, victim, 49152, 3784, bfd(i % 4, 7, DISCRIMINATOR, wrong)))
        frames.append(frame(mac, partner, victim, 49152, 3784, bfd(i % 4, 7, DISCRIMINATOR)))
        frames.append(frame(mac, partner, victim, 49152, 3784, bfd(1, 7, DISCRIMINATOR, wrong), ttl=254))
        frames.append(frame(mac, partner, victim, 49152, 3784, bfd(1, 7, random.getrandbits(32))))
        broken = random.randbytes(8) + struct.pack("!I", DISCRIMINATOR) + random.randbytes(12)
        frames.append(frame(mac, partner, victim, 49152, 3784, broken))
        frames.append(frame(mac, "10.77.0.99", victim, 49152, 3784, bfd(1, 7, DISCRIMINATOR)))
        frames.append(frame(mac, "10.77.0.99", victim, 7000, 7000, trunk(i)))
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((interface, 0))
    end, sent = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        for one in frames:
            try:
                link.send(one)
                sent += 1
            except OSError:  # the queue is full
                pass
    print(json.dumps({"sent": sent}))


main()
