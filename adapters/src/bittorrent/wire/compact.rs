//! Addresses as bytes: 4 or 16 of the address, 2 of the port (BEP 23, 7, 15).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use p2pbridge_proto::Peer;

/// Bytes of an IPv4 address with its port.
pub const STRIDE_V4: usize = 6;
/// Bytes of an IPv6 address with its port.
pub const STRIDE_V6: usize = 18;

/// Reads at most `most` IPv4 peers; those with port 0, and bytes left over, are passed over.
#[must_use]
pub fn read_v4(bytes: &[u8], most: usize) -> Vec<Peer> {
    let entries = bytes.as_chunks::<STRIDE_V4>().0.iter();
    let peers = entries.filter_map(|[a, b, c, d, hi, lo]| {
        peer(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*hi, *lo]))
    });
    peers.take(most).collect()
}

/// Reads at most `most` IPv6 peers; those with port 0, and bytes left over, are passed over.
#[must_use]
pub fn read_v6(bytes: &[u8], most: usize) -> Vec<Peer> {
    let entries = bytes.as_chunks::<STRIDE_V6>().0.iter();
    let peers = entries.filter_map(|entry| {
        let (ip, port) = (entry.first_chunk::<16>()?, entry.last_chunk::<2>()?);
        peer(IpAddr::from(Ipv6Addr::from(*ip)).to_canonical(), u16::from_be_bytes(*port))
    });
    peers.take(most).collect()
}

/// The peers as bytes: those of IPv4, and those of IPv6.
#[must_use]
pub fn write(peers: &[Peer]) -> (Vec<u8>, Vec<u8>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        let port = peer.endpoint.port().to_be_bytes();
        match peer.endpoint.ip().to_canonical() {
            IpAddr::V4(ip) => v4.extend_from_slice(&[&ip.octets()[..], &port].concat()),
            IpAddr::V6(ip) => v6.extend_from_slice(&[&ip.octets()[..], &port].concat()),
        }
    }
    (v4, v6)
}

fn peer(ip: IpAddr, port: u16) -> Option<Peer> {
    (port != 0).then(|| Peer::at(SocketAddr::new(ip, port)))
}
