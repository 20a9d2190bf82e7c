"""An interop peer of Peerage on py-libp2p. See ../README.md for the command line and the events."""

import argparse
import functools
import json
import logging
import sys
import time

from libp2p import new_host
from libp2p.crypto import ed25519, rsa, secp256k1, x25519
from libp2p.host import basic_host
from libp2p.host.ping import PingService
from libp2p.identity.identify_push.identify_push import push_identify_to_peers
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as Noise
from libp2p.security.tls.transport import PROTOCOL_ID as TLS, TLSTransport as Tls
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID as MPLEX, Mplex
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX, Yamux
from multiaddr import Multiaddr
import trio

from contract import contract
from gossip import SIGNINGS, gossip
from streams import (
    CALLBACK,
    CALLBACK_BYTES,
    CHANGE,
    CHANGED,
    ECHO,
    PERF,
    PING_BACK,
    SEEN,
    ask,
    echo,
    many,
    perf,
    serve_ask,
    serve_echo,
    serve_perf,
)
from transports import TRANSPORTS, as_dialed, make_options

STEP_DEADLINE = 20
PINGS = 3
STEPS = "dial,ping,identify,echo-64k,echo-4m,perf,many,callback,ping-back,push,pushed"

# What the words of the command line mean. The library has no ECDSA keys.
SECURITIES = {
    "noise": lambda keys: {NOISE: Noise(keys, noise_privkey=x25519.create_new_key_pair().private_key)},
    "tls": lambda keys: {TLS: Tls(keys)},
}
MUXERS = {"yamux": {YAMUX: Yamux}, "mplex": {MPLEX: Mplex}}
KEY_TYPES = {
    "ed25519": ed25519.create_new_key_pair,
    "secp256k1": secp256k1.create_new_key_pair,
    "rsa": rsa.create_new_key_pair,
}


def main():
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    options = parse()
    modes = {"listen": listen, "dial": dial, "gossip": talk, "contract": obey}
    run = modes[options.mode]
    sys.exit(0 if trio.run(run, options) else 1)


def parse():
    parser = argparse.ArgumentParser(prog="peer")
    parser.add_argument("mode", choices=["listen", "dial", "gossip", "contract"])
    parser.add_argument("--addr", type=Multiaddr)
    parser.add_argument("--steps", default=STEPS)
    parser.add_argument("--suite", choices=["transport", "perf"], default="transport")
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    for file in ("--tls-cert", "--tls-key", "--tls-ca"):
        parser.add_argument(file)
    parser.add_argument("--security", choices=SECURITIES, default="noise")
    parser.add_argument("--muxer", choices=MUXERS, default="yamux")
    parser.add_argument("--key-type", choices=KEY_TYPES, default="ed25519")
    parser.add_argument("--signing", choices=SIGNINGS, default="strict")
    parser.set_defaults(any_cert=False)
    options = parser.parse_args()
    options.addr = options.addr or Multiaddr(TRANSPORTS[options.transport])
    options.steps = options.steps.split(",")
    if options.mode == "dial" and options.steps[0] != "dial":
        parser.error("the first step must be dial")
    return options


async def obey(options):
    return await contract(options.suite, make_host)


async def talk(options):
    return await gossip(options, make_host(options), emit, describe, STEP_DEADLINE)


def make_host(options):
    # All is named, because the defaults offer more than one of each.
    keys = KEY_TYPES[options.key_type]()
    host = new_host(
        key_pair=keys,
        sec_opt=SECURITIES[options.security](keys),
        muxer_opt=MUXERS[options.muxer],
        **make_options(options),
    )
    host.set_stream_handler(ECHO, serve_echo)
    return host


async def ping(host, peer):
    return {"rtts_ms": await PingService(host).ping(peer, PINGS)}


async def change(host, peer):
    """Speak one protocol more from now on, and say so: the library does not push by itself."""
    host.set_stream_handler(CHANGED, lambda stream: stream.reset())
    await push_identify_to_peers(host, {peer})


async def await_change(host, peer):
    """Wait until identify has told that the remote speaks one protocol more."""
    while not host.get_peerstore().supports_protocols(peer, [CHANGED]):
        await trio.sleep(0.01)


def on_identified(report):
    """
    Call `report` with the fields of each identify message the host has received and accepted.

    py-libp2p has no event for it, and its peer store keeps neither the protocol version nor the observed
    address. So we look over its shoulder, where it puts the message into the peer store. Asking a second
    time on a stream of our own would be another test: js-libp2p allows one identify stream at a time.
    """
    original = basic_host.update_peerstore_from_identify

    @functools.wraps(original)
    async def and_report(peerstore, peer_id, message):
        await original(peerstore, peer_id, message)
        report({
            "peer": str(peer_id),
            "agent": message.agent_version,
            "protocol_version": message.protocol_version,
            "protocols": list(message.protocols),
            "addrs": [str(Multiaddr(addr)) for addr in message.listen_addrs],
            "observed": str(Multiaddr(message.observed_addr)) if message.observed_addr else "",
        })

    basic_host.update_peerstore_from_identify = and_report


async def listen(options):
    host = make_host(options)
    asked = {
        CALLBACK: lambda peer: echo(host, peer, CALLBACK_BYTES),
        PING_BACK: lambda peer: ping(host, peer),
        SEEN: lambda peer: await_change(host, peer),
        CHANGE: lambda peer: change(host, peer),
    }
    for protocol, do in asked.items():
        host.set_stream_handler(protocol, functools.partial(serve_ask, protocol, do, STEP_DEADLINE))
    host.set_stream_handler(PERF, serve_perf)
    on_identified(lambda found: emit(event="identified", **found))
    async with host.run(listen_addrs=[options.addr]):
        addrs = [str(addr) for addr in host.get_addrs()]
        emit(event="listening", peer=str(host.get_id()), addrs=addrs)
        # The harness holds the other end of stdin: when it goes away, so do we.
        await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
    return True


async def dial(options):
    host = make_host(options)
    remote = info_from_p2p_addr(as_dialed(options.addr))
    identified, when_identified = {}, trio.Event()

    def report(found):
        identified.update(found)
        when_identified.set()

    on_identified(report)  # before dialing: it may come before the step that asks for it

    async def do_dial():
        await host.connect(remote)
        return {"peer": str(remote.peer_id)}

    async def do_identify():
        await when_identified.wait()
        return identified

    async def do_push():
        await change(host, remote.peer_id)
        return await ask(host, remote.peer_id, SEEN)

    async def do_pushed():
        await ask(host, remote.peer_id, CHANGE)
        await await_change(host, remote.peer_id)
        return {}

    run = {
        "dial": do_dial,
        "ping": functools.partial(ping, host, remote.peer_id),
        "identify": do_identify,
        "echo-64k": functools.partial(echo, host, remote.peer_id, 64 << 10),
        "echo-4m": functools.partial(echo, host, remote.peer_id, 4 << 20),
        "perf": functools.partial(perf, host, remote.peer_id),
        "many": functools.partial(many, host, remote.peer_id),
        "callback": functools.partial(ask, host, remote.peer_id, CALLBACK),
        "ping-back": functools.partial(ask, host, remote.peer_id, PING_BACK),
        "push": do_push,
        "pushed": do_pushed,
    }

    all_ok = True
    # Nobody dials us, but a py-libp2p without addresses waits half a second for one to appear before it
    # answers an identify request.
    # Over plain WebSocket instead of wss, for which a dialer has no certificate.
    transport = "ws" if options.transport == "wss" else options.transport
    async with host.run(listen_addrs=[Multiaddr(TRANSPORTS[transport])]):
        for step in options.steps:
            started = time.perf_counter()
            try:
                if step not in run:
                    raise ValueError(f"no such step: {step}")
                with trio.fail_after(STEP_DEADLINE):
                    outcome = {"ok": True, **await run[step]()}
            except Exception as error:
                logging.exception("step %s", step)
                outcome = {"ok": False, "error": describe(error)}
                all_ok = False
            emit(event="step", step=step, ms=round((time.perf_counter() - started) * 1000, 3), **outcome)
            if step == "dial" and not outcome["ok"]:
                break  # nothing works without a connection
        emit(event="done", ok=all_ok)
    return all_ok


def describe(error):
    """One line with the causes: those of py-libp2p are often empty but for the class of the innermost."""
    causes = []
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        causes.append(f"{type(error).__name__}: {error}".removesuffix(": "))
        error = error.__cause__
    return " < ".join(causes)


def emit(**event):
    print(json.dumps(event), flush=True)


main()
