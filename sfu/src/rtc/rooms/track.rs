use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use str0m::{media::MediaKind, rtp::Ssrc};

use super::room::Line;
use crate::rtc::forward::Forward;

/// How long a track's stream is silent before another stream of the same media line is followed.
const SILENCE: Duration = Duration::from_millis(500);

/// What a participant sends by one of its media lines, and where that goes.
pub(super) struct Track {
    pub(super) kind: MediaKind,
    /// By the subscriber's slot.
    pub(super) forwards: BTreeMap<Line, Forward>,
    /// When its publisher was last asked for a keyframe.
    pub(super) asked: Option<Instant>,
    followed: Option<Followed>,
}

struct Followed {
    stream: Ssrc,
    heard: Instant,
}

/// Whether a packet belongs to the stream that is passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Follows {
    Yes,
    /// It does, and its predecessors did not.
    FromNowOn,
    Another,
}

impl Track {
    pub(super) fn new(kind: MediaKind) -> Self {
        Self { kind, forwards: BTreeMap::new(), asked: None, followed: None }
    }

    /// The stream that is passed on.
    pub(super) fn stream(&self) -> Option<Ssrc> {
        self.followed.as_ref().map(|followed| followed.stream)
    }

    /// Decides about a packet of the line that arrived at `at`.
    ///
    /// A client that sends simulcast, though its answer has none, sends several streams by one line,
    /// and mixed they are no video at all: the first is followed until it falls silent.
    pub(super) fn follows(&mut self, stream: Ssrc, at: Instant) -> Follows {
        match &mut self.followed {
            Some(followed) if followed.stream == stream => {
                followed.heard = at;
                Follows::Yes
            }
            Some(followed) if at.saturating_duration_since(followed.heard) < SILENCE => {
                Follows::Another
            }
            other => {
                let changed = other.replace(Followed { stream, heard: at }).is_some();
                if changed { Follows::FromNowOn } else { Follows::Yes }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_streams_by_one_line_the_first_is_followed_until_it_falls_silent() {
        let (mut track, start) = (Track::new(MediaKind::Video), Instant::now());
        let (low, high) = (Ssrc::from(1), Ssrc::from(2));
        assert_eq!(track.stream(), None);
        assert_eq!(track.follows(low, start), Follows::Yes);
        assert_eq!(track.follows(high, start), Follows::Another);
        let later = start + SILENCE;
        assert_eq!(track.follows(low, later), Follows::Yes);
        assert_eq!(track.follows(high, later), Follows::Another, "it was just heard");
        assert_eq!(track.follows(high, later + SILENCE), Follows::FromNowOn);
        assert_eq!(track.stream(), Some(high));
        assert_eq!(track.follows(low, later + SILENCE), Follows::Another);
    }
}
