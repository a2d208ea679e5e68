"""An SFU on aiortc that sends everyone's audio back.

usage: aiortc_echo.py ADDRESS PORT

POST /offer takes an SDP offer and answers with an SDP answer; GET /seen tells how many packets of
audio the last session received.
"""

import sys

import aioice.ice
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription

sessions = []


async def offer(request):
    pc = RTCPeerConnection()
    sessions.append(pc)

    @pc.on("track")
    def on_track(track):
        pc.addTrack(track)

    await pc.setRemoteDescription(RTCSessionDescription(sdp=await request.text(), type="offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    return web.Response(text=pc.localDescription.sdp)


async def seen(_request):
    stats = await sessions[-1].getStats()
    packets = [each.packetsReceived for each in stats.values() if each.type == "inbound-rtp"]
    return web.Response(text=str(sum(packets)))


if __name__ == "__main__":
    address, port = sys.argv[1], int(sys.argv[2])
    # aioice gathers every address but loopback's, and loopback is all that is used here.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
    app = web.Application()
    app.add_routes([web.post("/offer", offer), web.get("/seen", seen)])
    web.run_app(app, host=address, port=port, access_log=None)
