//! How much one machine's store holds.

use std::time::Duration;

/// The bounds of a store: at one of them the newcomer is refused with a reason, except for the history,
/// whose oldest goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most entries.
    pub(super) entries_max: usize,
    /// Most bytes of all keys and values.
    pub(super) bytes_max: usize,
    /// Most leases.
    pub(super) leases_max: usize,
    /// Most revisions that can be read again.
    pub(super) history_max: usize,
    /// Most bytes of keys and values that are kept for them alone.
    pub(super) history_bytes_max: usize,
    /// Bytes of values behind which a page ends, though more entries were asked for.
    pub(super) page_bytes_max: usize,
}

/// A fleet of thousands of nodes with 100,000 sessions, and room to spare.
pub(super) const LIMITS: Limits = Limits {
    entries_max: super::ENTRIES_MAX,
    bytes_max: super::BYTES_MAX,
    leases_max: super::LEASES_MAX,
    history_max: super::HISTORY_MAX,
    history_bytes_max: super::HISTORY_BYTES_MAX,
    page_bytes_max: 4 * 1024 * 1024,
};

/// A moment of the store's own clock: the time since it was opened.
pub(super) type Moment = Duration;
