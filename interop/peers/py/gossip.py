"""A node that publishes and subscribes as the lines on stdin tell it to."""

import json
import logging
import sys

from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import (
    PROTOCOL_ID,
    PROTOCOL_ID_V11,
    PROTOCOL_ID_V12,
    PROTOCOL_ID_V13,
    GossipSub,
)
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr
import trio

from streams import make_pattern
from transports import as_dialed

# What the words of --signing mean. The library has no messages without an author.
SIGNINGS = {"strict": True, "named": False}
# Those that are specified; the library has two more of its own making.
PROTOCOLS = [PROTOCOL_ID_V13, PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID]


async def gossip(options, host, emit, describe, deadline):
    """Do what the lines on stdin say, one after the other, until there are no more."""
    # A heartbeat every two minutes is the default, and what adapts the mesh makes it one of half a minute. Ten messages
    # a second are all that the library takes of one peer, and fewer than three addresses in a mesh it calls an eclipse.
    router = GossipSub(
        protocols=PROTOCOLS,
        degree=6,
        degree_low=5,
        degree_high=12,
        heartbeat_interval=1,
        adaptive_gossip_enabled=False,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )
    pubsub = Pubsub(host, router, strict_signing=SIGNINGS[options.signing])

    async def relate(subscription):
        async for message in subscription:
            if message.from_id == host.get_id().to_bytes():
                continue  # the library gives us our own as well
            for topic in message.topicIDs:
                author = str(ID(message.from_id)) if message.from_id else ""
                emit(event="message", topic=topic, **read(message.data), author=author)

    async def dial(command):
        await host.connect(info_from_p2p_addr(as_dialed(Multiaddr(command["addr"]))))

    async def subscribe(command):
        nursery.start_soon(relate, await pubsub.subscribe(command["topic"]))

    async def unsubscribe(command):
        await pubsub.unsubscribe(command["topic"])

    async def publish(command):
        await pubsub.publish(command["topic"], write(command["name"], command["bytes"]))

    async def state(command):
        topic = command["topic"]
        return {
            "subscribers": [str(peer) for peer in pubsub.peer_topics.get(topic, ())],
            "mesh": [str(peer) for peer in router.mesh.get(topic, ())],
            "protocols": {str(peer): protocol for peer, protocol in router.peer_protocol.items()},
        }

    run = {one.__name__: one for one in (dial, subscribe, unsubscribe, publish, state)}
    async with (
        host.run(listen_addrs=[options.addr]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        emit(event="listening", peer=str(host.get_id()), addrs=[str(addr) for addr in host.get_addrs()])
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command = json.loads(line)
            try:
                with trio.fail_after(deadline):
                    outcome = {"ok": True, **(await run[command["do"]](command) or {})}
            except Exception as error:
                logging.exception("%s", command)
                outcome = {"ok": False, "error": describe(error)}
            emit(event="answer", do=command["do"], **outcome)
        nursery.cancel_scope.cancel()
    return True


def write(name, size):
    """Make a message: its name, a line feed, and the pattern."""
    head = f"{name}\n".encode()
    return head + make_pattern(max(0, size - len(head)))


def read(data):
    """Give the name of a message, its size, and whether it is as it was written."""
    name = data.split(b"\n", 1)[0].decode(errors="replace")
    return {"name": name, "bytes": len(data), "intact": data == write(name, len(data))}
