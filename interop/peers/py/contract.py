"""
The contract of the official suites: the environment says what to do, libp2p/unified-testing in upper case and
libp2p/test-plans in lower case. What is printed is what they read. See ../README.md.
"""

import argparse
import datetime
import ipaddress
import json
import os
from pathlib import Path
import tempfile
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from libp2p.host.ping import PingService
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr
import trio

from redis_client import Redis
from streams import PERF, serve_perf
from transports import TRANSPORTS, as_dialed

TIMEOUT = 180
VALID = datetime.timedelta(days=2)


def read_settings():
    unified = "TRANSPORT" in os.environ

    def of(name, old, default=None):
        return os.environ.get(name if unified else old, default)

    return argparse.Namespace(
        unified=unified,
        is_dialer=of("IS_DIALER", "is_dialer") == "true",
        redis=of("REDIS_ADDR", "redis_addr", "redis:6379"),
        key=f"{os.environ['TEST_KEY']}_listener_multiaddr" if unified else "listenerAddr",
        ip=of("LISTENER_IP", "ip", "0.0.0.0"),
        timeout=int(of("TEST_TIMEOUT_SECS", "test_timeout_seconds", TIMEOUT)),
        # What a host is made with.
        transport=of("TRANSPORT", "transport"),
        security=of("SECURE_CHANNEL", "security", "noise"),
        muxer=of("MUXER", "muxer", "yamux"),
        key_type="ed25519",
        tls_cert=None,
        tls_key=None,
        tls_ca=None,
        any_cert=True,
    )


async def contract(suite, make_host):
    settings = read_settings()
    with trio.fail_after(settings.timeout):
        redis = await Redis.connect(settings.redis)
        await (dial if settings.is_dialer else listen)(settings, suite, make_host, redis)
    return True


async def listen(settings, suite, make_host, redis):
    """Run until killed: who ends first, ends the test."""
    with tempfile.TemporaryDirectory() as directory:
        if settings.transport == "wss":
            self_signed(settings, directory)
        host = make_host(settings)
    # Not the library's own service: over WebRTC it takes the end of what it reads for an error, and cannot answer.
    host.set_stream_handler(PERF, serve_perf)
    address = TRANSPORTS[settings.transport].replace("127.0.0.1", settings.ip)
    async with host.run(listen_addrs=[Multiaddr(address)]):
        on_loopback = ipaddress.ip_address(settings.ip).is_loopback
        published = next(
            address for address in map(str, host.get_addrs()) if on_loopback or "/127." not in address
        )
        await redis.command("DEL", settings.key)
        await redis.command("SET" if suite == "perf" else "RPUSH", settings.key, published)
        await trio.sleep_forever()


def self_signed(settings, directory):
    """A certificate for one test, signed by nobody. Who is there is proven within."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "interop")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + VALID)
    settings.tls_cert, settings.tls_key = f"{directory}/cert.pem", f"{directory}/key.pem"
    pem = serialization.Encoding.PEM
    Path(settings.tls_cert).write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    Path(settings.tls_key).write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))


async def dial(settings, suite, make_host, redis):
    if suite == "perf":
        raise ValueError("this peer measures nothing as a dialer")
    host = make_host(settings)
    transport = "ws" if settings.transport == "wss" else settings.transport
    async with host.run(listen_addrs=[Multiaddr(TRANSPORTS[transport])]):
        _, address = await redis.command("BLPOP", settings.key, "0")
        remote = info_from_p2p_addr(as_dialed(address))
        started = time.perf_counter()
        await host.connect(remote)
        [rtt] = await PingService(host).ping(remote.peer_id, 1)
        handshake = (time.perf_counter() - started) * 1000
        if settings.unified:
            lines = ["latency:", f"  handshake_plus_one_rtt: {handshake}", f"  ping_rtt: {rtt}", "  unit: ms"]
            print(*lines, sep="\n", flush=True)
        else:
            line = {"handshakePlusOneRTTMillis": handshake, "pingRTTMilllis": rtt}
            print(json.dumps(line), flush=True)
