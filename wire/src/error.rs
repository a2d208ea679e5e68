use thiserror::Error;

/// Why `wire` refused bytes. `Copy` and small: a flood of bad datagrams costs no allocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A field reaches beyond the bytes there are.
    #[error("{field} needs {need} bytes, has {have}")]
    Short {
        /// Which field.
        field: &'static str,
        /// Bytes the field needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A field that must be one value is another.
    #[error("{0} is not what the format fixes it to")]
    Unexpected(&'static str),
    /// A length is over what the protocol allows.
    #[error("{field} is {have} bytes, at most {most} are allowed")]
    Long {
        /// Which field.
        field: &'static str,
        /// Bytes allowed at most.
        most: usize,
        /// Bytes claimed.
        have: usize,
    },
}
