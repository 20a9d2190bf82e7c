"""The transports: how a host is told to have one, and no other."""

import ssl

from aioice import ice
from multiaddr import Multiaddr

# Where each listens unless told otherwise. The library looks at such an address to see which one is wanted.
TRANSPORTS = {
    "tcp": "/ip4/127.0.0.1/tcp/0",
    "ws": "/ip4/127.0.0.1/tcp/0/ws",
    "wss": "/ip4/127.0.0.1/tcp/0/tls/ws",
    "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1",
    "webrtc-direct": "/ip4/127.0.0.1/udp/0/webrtc-direct",
}


def make_options(options):
    """What `new_host` takes for it. A listener shows its certificate; a dialer trusts the authority and nobody else,
    unless it shall trust everybody.
    """
    # It would dial from every address but those of loopback, and nothing here is to leave that.
    ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"] if use_ipv4 else []
    made = {"listen_addrs": [Multiaddr(TRANSPORTS[options.transport])]}
    if options.transport == "wss" and options.tls_cert:
        made["tls_server_config"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made["tls_server_config"].load_cert_chain(options.tls_cert, options.tls_key)
    if options.transport == "wss" and options.any_cert:
        made["tls_client_config"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made["tls_client_config"].check_hostname = False
        made["tls_client_config"].verify_mode = ssl.CERT_NONE
    if options.transport == "wss" and options.tls_ca:
        made["tls_client_config"] = ssl.create_default_context(cafile=options.tls_ca)
    return made


def as_dialed(addr):
    """The address in a form that the library dials: of wss with a peer id it takes the older one only."""
    return Multiaddr(str(addr).replace("/tls/ws", "/wss"))
