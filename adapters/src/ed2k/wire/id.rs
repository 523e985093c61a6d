//! Client ids: a high one is an address, a low one is a number that means something to one server only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// The first number that is a high id.
pub const FIRST_HIGH: u32 = 0x0100_0000;

/// What a server calls a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// The client can be reached at this address.
    High(Ipv4Addr),
    /// The client cannot be reached; its server can ask it to connect to somebody.
    Low(u32),
}

impl ClientId {
    /// From its number on the wire: the octets of an address, the first one lowest.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        if number < FIRST_HIGH {
            Self::Low(number)
        } else {
            let [a, b, c, d] = number.to_le_bytes();
            Self::High(Ipv4Addr::new(a, b, c, d))
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::High(address) => u32::from_le_bytes(address.octets()),
            Self::Low(number) => number,
        }
    }

    /// Whether the client cannot be reached.
    #[must_use]
    pub const fn is_low(self) -> bool {
        matches!(self, Self::Low(_))
    }

    /// The client as an endpoint. One with a low id gets the address that its number would be (its last octet is 0):
    /// no client can be reached there, and [`ClientId::of`] knows it again.
    #[must_use]
    pub const fn endpoint(self, port: u16) -> SocketAddr {
        let [a, b, c, d] = self.number().to_le_bytes();
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
    }

    /// The id of a client with this address; `None` where the protocol has none (IPv6).
    #[must_use]
    pub fn of(endpoint: SocketAddr) -> Option<Self> {
        match endpoint.ip().to_canonical() {
            IpAddr::V4(address) => Some(Self::from_number(u32::from_le_bytes(address.octets()))),
            IpAddr::V6(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_endpoints_and_numbers_are_the_same_thing() {
        let high = ClientId::from_number(u32::from_le_bytes([198, 51, 100, 3]));
        assert_eq!(high, ClientId::High(Ipv4Addr::new(198, 51, 100, 3)));
        assert_eq!(high.endpoint(4662), "198.51.100.3:4662".parse().unwrap());
        for id in [high, ClientId::Low(1), ClientId::Low(FIRST_HIGH - 1)] {
            assert_eq!(ClientId::from_number(id.number()), id);
            assert_eq!(ClientId::of(id.endpoint(7)), Some(id));
        }
        assert_eq!(ClientId::of("[2001:db8::1]:1".parse().unwrap()), None);
    }
}
