use std::{fmt, str::FromStr};

/// A room's name: 1 to 128 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`, which URLs have another use for.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct RoomName(String);

/// A text that cannot be a room's name.
#[derive(Debug, thiserror::Error)]
#[error("a room name has 1 to 128 characters of A-Z a-z 0-9 . _ -, and is not . or ..")]
pub struct InvalidRoomName;

impl FromStr for RoomName {
    type Err = InvalidRoomName;

    fn from_str(name: &str) -> Result<Self, InvalidRoomName> {
        let fits = ![".", ".."].contains(&name)
            && (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidRoomName) }
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
