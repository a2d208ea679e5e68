//! Reading the vector files in `tests/vectors`, each of which names its sources.

use serde::Deserialize;

/// Bytes written as hex.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl std::ops::Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Fails with every sentence that does not hold, not only the first.
#[track_caller]
pub(crate) fn all_hold(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} not upheld:\n{}", wrong.len(), wrong.join("\n"));
}
