//! The socket of one link.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as Std},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::link::Link;

/// Where all speak, by IPv4 (RFC 6762, 3).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// And by IPv6.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Nothing that a router has passed on has this left (RFC 6762, 11).
const TTL: u32 = 255;

/// Speaks and hears on one link, to and from the group alone: messages to this machine's own addresses go past it, and so do
/// those of other interfaces.
#[derive(Debug)]
pub(super) struct LinkSocket {
    socket: UdpSocket,
    group: SocketAddr,
}

impl LinkSocket {
    /// Binds it. Other programs of this machine may be bound to the same port, and hear the same.
    pub(super) fn bind(link: &Link, port: u16) -> io::Result<Self> {
        let ip = link.ip().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (socket, group) = match ip {
            IpAddr::V4(ip) => v4(ip, port)?,
            IpAddr::V6(_) => v6(link.id.interface, port)?,
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(Std::from(socket))?, group })
    }

    /// Says something, or not: what does not fit into the socket's queue is lost, as any datagram may be.
    pub(super) fn say(&self, message: &[u8]) -> io::Result<()> {
        match self.socket.try_send_to(message, self.group) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// The next message, and who sent it.
    pub(super) async fn hear(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }
}

fn v4(ip: Ipv4Addr, port: u16) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared(Domain::IPV4)?;
    // Without it, a socket hears what any socket of this machine has joined.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_multicast_all_v4(false)?;
    let group = SocketAddr::from((GROUP_V4, port));
    socket.bind(&bound(group).into())?;
    socket.join_multicast_v4(&GROUP_V4, &ip)?;
    socket.set_multicast_if_v4(&ip)?;
    // Nodes of one machine hear one another, and each its own questions.
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(TTL)?;
    Ok((socket, group))
}

fn v6(interface: u32, port: u16) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared(Domain::IPV6)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_multicast_all_v6(false)?;
    socket.set_only_v6(true)?;
    let group = SocketAddr::from(SocketAddrV6::new(GROUP_V6, port, 0, interface));
    socket.bind(&bound(group).into())?;
    socket.join_multicast_v6(&GROUP_V6, interface)?;
    socket.set_multicast_if_v6(interface)?;
    socket.set_multicast_loop_v6(true)?;
    socket.set_multicast_hops_v6(TTL)?;
    Ok((socket, group))
}

fn shared(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Linux shares the port by that alone. There, sockets that also have this option divide the messages of a group among
    // themselves, whatever link they have joined it on (seen on 6.18).
    #[cfg(all(unix, not(any(target_os = "android", target_os = "linux"))))]
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Bound to the group, a socket gets nothing that was sent to another address. Windows has no such thing.
#[cfg(unix)]
fn bound(group: SocketAddr) -> SocketAddr {
    group
}

#[cfg(not(unix))]
fn bound(group: SocketAddr) -> SocketAddr {
    let any: IpAddr = match group {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, group.port())
}
