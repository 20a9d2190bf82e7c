"""A benchmark peer of Peerage on py-libp2p. See ../README.md for the command line and what is printed."""

import argparse
from importlib.metadata import version
import json
import logging
import platform
import sys

from libp2p import new_host
from libp2p.crypto import ed25519, x25519
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.security.tls.transport import PROTOCOL_ID as TLS, TLSTransport as Tls
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX, Yamux
from multiaddr import Multiaddr
import trio

import measure
from streams import PERF, REQUEST, serve_perf, serve_request

SECURITIES = {
    "tcp-noise": lambda keys: {NOISE: Noise(keys, noise_privkey=x25519.create_new_key_pair().private_key)},
    "tcp-tls": lambda keys: {TLS: Tls(keys)},
}
LOOPBACK = "127.0.0.1"


def main():
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
    options = parse()
    if options.transport not in SECURITIES:
        say(event="unsupported", what=options.transport)
        return
    trio.run(serve if options.role == "server" else take, options)


def parse():
    parser = argparse.ArgumentParser(prog="peer")
    roles = parser.add_subparsers(dest="role", required=True)
    client = roles.add_parser("client")
    client.add_argument("address", type=lambda text: info_from_p2p_addr(Multiaddr(text)))
    client.add_argument("measure", choices=measure.MEASURES)
    for role in roles.add_parser("server"), client:
        role.add_argument("--transport", default="tcp-noise")
        role.add_argument("--workers", type=int)  # one thread runs all of Python
        role.add_argument("--host", default=LOOPBACK)
        role.add_argument("--seconds", type=float, default=2)
        role.add_argument("--write", type=int, default=64 << 10)
        role.add_argument("--connections", type=int, default=100)
    return parser.parse_args()


def make_host(options):
    # All is named, because the defaults offer more than one of each.
    keys = ed25519.create_new_key_pair()
    return new_host(key_pair=keys, sec_opt=SECURITIES[options.transport](keys), muxer_opt={YAMUX: Yamux})


def address(options):
    return Multiaddr(f"/ip4/{options.host}/tcp/0")


async def serve(options):
    host = make_host(options)
    host.set_stream_handler(PERF, serve_perf)
    host.set_stream_handler(REQUEST, serve_request)
    async with host.run(listen_addrs=[address(options)]):
        about = f"py-libp2p {version('libp2p')}, {platform.python_implementation()} {platform.python_version()}"
        say(event="listening", address=str(host.get_addrs()[0]), about=f"{about} (one thread)")
        await stdin_ends()


async def take(options):
    async with trio.open_nursery() as nursery:
        # Nobody dials us, but a py-libp2p without addresses waits half a second for one to appear before it answers
        # an identify request.
        async def start():
            return await nursery.start(run, make_host(options), address(options))

        await measure.take(options, start, say)
        await stdin_ends()
        nursery.cancel_scope.cancel()


async def run(host, address, task_status):
    async with host.run(listen_addrs=[address]):
        task_status.started(host)
        await trio.sleep_forever()


async def stdin_ends():
    # The harness holds the other end of stdin: when it goes away, so do we.
    await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)


def say(**event):
    print(json.dumps(event), flush=True)


main()
