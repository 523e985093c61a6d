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

/// Writes the IPv4 ones among the peers, at most `most`; says how many.
pub fn write_v4(out: &mut Vec<u8>, peers: &[Peer], most: usize) -> usize {
    let addresses = peers.iter().filter_map(|peer| match peer.endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => Some((ip.octets(), peer.endpoint.port())),
        IpAddr::V6(_) => None,
    });
    write(out, addresses.take(most))
}

/// Writes the IPv6 ones among the peers, at most `most`; says how many.
pub fn write_v6(out: &mut Vec<u8>, peers: &[Peer], most: usize) -> usize {
    let addresses = peers.iter().filter_map(|peer| match peer.endpoint.ip().to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some((ip.octets(), peer.endpoint.port())),
    });
    write(out, addresses.take(most))
}

fn write<const N: usize>(
    out: &mut Vec<u8>,
    addresses: impl Iterator<Item = ([u8; N], u16)>,
) -> usize {
    let mut count = 0;
    for (ip, port) in addresses {
        out.extend_from_slice(&ip);
        out.extend_from_slice(&port.to_be_bytes());
        count += 1;
    }
    count
}

fn peer(ip: IpAddr, port: u16) -> Option<Peer> {
    (port != 0).then(|| Peer::at(SocketAddr::new(ip, port)))
}
