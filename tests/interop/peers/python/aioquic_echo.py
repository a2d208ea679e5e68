"""An HTTP/3 server on aioquic that sends every WebTransport datagram back.

usage: aioquic_echo.py ADDRESS PORT CERTIFICATE KEY SEEN

Writes a line "listening" once it does, and keeps the number of datagrams it has seen in the file SEEN.
"""

import asyncio
import sys

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DatagramReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated

seen = 0


class Echo(QuicConnectionProtocol):
    http = None

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic, enable_webtransport=True)
        if self.http is not None:
            for each in self.http.handle_event(event):
                self.answer(each)

    def answer(self, event):
        global seen
        if isinstance(event, HeadersReceived):
            self.http.send_headers(event.stream_id, [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")])
        elif isinstance(event, DatagramReceived):
            seen += 1
            with open(sys.argv[5], "w") as file:
                file.write(str(seen))
            self.http.send_datagram(event.stream_id, event.data)
        self.transmit()


async def main():
    address, port, certificate, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN, max_datagram_frame_size=65536)
    configuration.load_cert_chain(certificate, key)
    await serve(address, port, configuration=configuration, create_protocol=Echo)
    print("listening", flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
