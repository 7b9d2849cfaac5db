#!/usr/bin/python3
"""Publishes by WHIP as FFmpeg's muxer does, with aiortc's stack: the offer says setup:passive, so that the server
must begin the DTLS handshake, and asks for no RTCP feedback. A moving picture and a tone, until interrupted.

Usage: whip_passive.py URL TOKEN
"""
import asyncio
import re
import sys

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack


def like_ffmpeg(sdp):
    lines = [line for line in sdp.splitlines() if not line.startswith("a=rtcp-fb")]
    return re.sub("a=setup:actpass", "a=setup:passive", "\r\n".join(lines) + "\r\n")


async def main(url, token):
    pc = RTCPeerConnection()
    for track in (AudioStreamTrack(), VideoStreamTrack()):
        pc.addTransceiver(track, direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http:
        async with http.post(url, data=like_ffmpeg(pc.localDescription.sdp), headers=headers) as reply:
            answer = await reply.text()
            if reply.status != 201 or "a=setup:active" not in answer:
                sys.exit(f"{reply.status}: {answer}")
            session = reply.headers["Location"]
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        try:
            while True:  # as ffmpeg -g: nobody can ask this publisher for a key frame
                await asyncio.sleep(1)
                sender = next(s for s in pc.getSenders() if s.track.kind == "video")
                sender._send_keyframe()  # pylint: disable=protected-access
        finally:
            await http.delete(session, headers=headers)
            await pc.close()


try:
    asyncio.run(main(*sys.argv[1:3]))
except KeyboardInterrupt:
    pass
