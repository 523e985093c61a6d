//! Sockets to listen at: one by one, or several at the same address among which the kernel spreads the load.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use p2pbridge_proto::OverlayId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::warn;

use crate::BuildError;

/// Connections that the kernel keeps until they are taken.
const BACKLOG: i32 = 1024;
/// Bytes of datagrams that wait to be read, for each socket; the kernel may allow less.
const DATAGRAMS: usize = 4 << 20;

/// Listens for connections; port 0 takes any free port. An IPv6 address does not take the port in IPv4 too.
///
/// # Errors
/// When the address cannot be listened at.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let mut one = tcp_group(address, 1)?;
    one.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Listens for connections at each of these addresses; must be called inside a tokio runtime. A machine without IPv6 may
/// leave out `[::]` if it has another address.
///
/// # Errors
/// When an address cannot be listened at.
pub(crate) fn tcp_each(
    overlay: &OverlayId,
    addresses: &[SocketAddr],
) -> Result<Vec<TcpListener>, BuildError> {
    let mut listeners = Vec::new();
    for address in addresses {
        match tcp(*address).and_then(TcpListener::from_std) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_ipv6_missing(*address, &error) && addresses.len() > 1 => {
                warn!(%overlay, %address, %error, "no IPv6 here: this address is left out");
            }
            Err(source) => {
                let what = format!("listen on {address}");
                return Err(BuildError { overlay: overlay.clone(), what, source });
            }
        }
    }
    Ok(listeners)
}

/// Listens for connections with several sockets.
///
/// # Errors
/// When the address cannot be listened at.
pub(crate) fn tcp_group(
    address: SocketAddr,
    count: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let sockets = group(address, count, || {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(Into::into).collect())
}

/// Takes datagrams with several blocking sockets. All packets of one sender come to the same socket.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn udp_group(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let sockets = group(address, count, || {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_recv_buffer_size(DATAGRAMS)?;
        Ok(socket)
    })?;
    Ok(sockets.into_iter().map(Into::into).collect())
}

/// Every address at which what listens so may be seen: at all addresses of this host, when it listens at all of them, and
/// at those by which it is known outside.
pub(crate) fn seen_at(listening: &[SocketAddr], public: &[IpAddr]) -> Vec<SocketAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let here: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .chain(public.iter().copied())
        .collect();
    let each = listening.iter().flat_map(|at| {
        let stands = |ip: &&IpAddr| at.ip().is_unspecified() && ip.is_ipv4() == at.is_ipv4();
        here.iter().filter(stands).map(|ip| SocketAddr::new(*ip, at.port())).chain([*at])
    });
    each.collect()
}

/// Whether an address cannot be listened at because this machine has no IPv6: then `[::]` may be left out.
pub(crate) fn is_ipv6_missing(address: SocketAddr, error: &io::Error) -> bool {
    /// `EAFNOSUPPORT` of Linux.
    const NO_FAMILY: i32 = 97;
    address.ip() == Ipv6Addr::UNSPECIFIED
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(NO_FAMILY))
}

/// Binds sockets to one address. The first is bound before it shares its port: else a port that another program holds
/// in the same way would be shared with that.
fn group(
    address: SocketAddr,
    count: usize,
    socket: impl Fn() -> io::Result<Socket>,
) -> io::Result<Vec<Socket>> {
    let first = socket()?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?;
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    let mut sockets = vec![first];
    for _ in 1..count {
        let next = socket()?;
        next.set_reuse_port(true)?;
        next.bind(&bound)?;
        sockets.push(next);
    }
    Ok(sockets)
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_one_port_and_keeps_others_out() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let group = tcp_group(any, 3).unwrap();
        let address = group[0].local_addr().unwrap();
        assert!(group.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(tcp_group(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let group = udp_group(any, 3).unwrap();
        let address = group[0].local_addr().unwrap();
        assert!(group.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(udp_group(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_may_have_the_same_port() {
        let Ok(six) = tcp("[::]:0".parse().unwrap()) else { return };
        let port = six.local_addr().unwrap().port();
        // Another program may hold the port in IPv4; then this shows nothing.
        match tcp(([0, 0, 0, 0], port).into()) {
            Ok(four) => assert_eq!(four.local_addr().unwrap().port(), port),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse),
        }
    }
}
