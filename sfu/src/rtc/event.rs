use str0m::{
    format::PayloadParams,
    media::{Direction, MediaKind, Mid},
    rtp::RtpPacket,
};

use super::Path;

/// What happened in a session that concerns others.
pub(super) enum Event {
    /// A request that came by this path was answered with success.
    Proved {
        path: Path,
        /// It was a USE-CANDIDATE request.
        nominated: bool,
    },
    /// A media line is there, or has another direction.
    Media(MediaChange),
    /// A packet for the room.
    Packet(Box<Incoming>),
    /// The subscriber of this media line needs a keyframe.
    Keyframe(Mid),
}

/// A media line and where it points, seen from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaChange {
    pub(super) mid: Mid,
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
}

/// A packet of a client's, the media line it came by, and its codec.
pub(super) struct Incoming {
    pub(super) packet: RtpPacket,
    pub(super) mid: Mid,
    pub(super) params: PayloadParams,
}
