/// A QUIC version whose Initial packets anyone can read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369. Same packets, other type bits, salt and labels.
    V2,
}

impl Version {
    /// Reads the version field of a long header. `None`: a version known by its invariants only.
    #[must_use]
    pub const fn from_wire(version: u32) -> Option<Self> {
        match version {
            0x0000_0001 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    /// The version field of a long header.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::V1 => 0x0000_0001,
            Self::V2 => 0x6b33_43cf,
        }
    }
}
