use std::{collections::HashMap, time::Instant};

use str0m::{
    Rtc,
    media::{Mid, Pt},
    rtp::{ExtensionValues, RtpWrite, SeqNo, Ssrc},
};

use super::{event::Incoming, extension::NodeName, session::Session};

/// Longest RTP payload that is passed on, in bytes. With the header, the extensions and the SRTP
/// tag it still fits in a tunnel datagram; far longer ones make str0m panic.
pub(super) const PAYLOAD_MAX: usize = 1350;

/// The first sequence number of a stream. SRTP counts roll-overs from zero, so a subscriber that
/// comes late must not begin where the publisher is.
const FIRST_SEQUENCE: u64 = 1000;

/// Feeds one slot of a subscriber from one publisher's track at a time, as one stream: one SSRC,
/// with sequence numbers and timestamps that go on when the track is exchanged for another.
pub(super) struct Forward {
    /// The subscriber's media line.
    slot: Mid,
    source: Option<Ssrc>,
    sequence_offset: u64,
    timestamp_offset: u32,
    /// The first sequence number of the present source.
    floor: u64,
    last: Option<Last>,
    /// The publisher's payload types as the subscriber negotiated them.
    types: HashMap<Pt, Option<Pt>>,
}

struct Last {
    sequence: u64,
    timestamp: u32,
    at: Instant,
}

/// A packet's place in a stream.
struct Place {
    source: Ssrc,
    sequence: u64,
    timestamp: u32,
    /// When it arrived.
    at: Instant,
    /// Ticks of `timestamp` in a second.
    clock_rate: u32,
}

/// Whether a packet was passed on, and if not, whether the publisher or the network is to blame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passed {
    On,
    /// The subscriber is not ready for it, or cannot decode it, or it is from before a change.
    Not,
    TooLong,
    /// The subscriber's session is over.
    Over,
}

impl Forward {
    pub(super) fn new(slot: Mid) -> Self {
        Self {
            slot,
            source: None,
            sequence_offset: 0,
            timestamp_offset: 0,
            floor: 0,
            last: None,
            types: HashMap::new(),
        }
    }

    /// Without a track. The next one is another source, even if its publisher has chosen the same SSRC
    /// and payload types.
    pub(super) fn parted(mut self) -> Self {
        self.source = None;
        self.types.clear();
        self
    }

    /// Writes a packet into the subscriber's slot.
    pub(super) fn pass(
        &mut self,
        incoming: &Incoming,
        subscriber: &mut Session,
        node: &NodeName,
    ) -> Passed {
        // What is written before the transport is up is queued without bound.
        if !subscriber.connected {
            return Passed::Not;
        }
        subscriber.guarded(|rtc| self.write(incoming, rtc, node)).unwrap_or(Passed::Over)
    }

    fn write(&mut self, incoming: &Incoming, rtc: &mut Rtc, node: &NodeName) -> Passed {
        let Incoming { packet, params, .. } = incoming;
        // What is written to a line that does not send is sent all the same.
        if rtc.media(self.slot).is_none_or(|media| !media.direction().is_sending()) {
            return Passed::Not;
        }
        if packet.payload.len() > PAYLOAD_MAX {
            return Passed::TooLong;
        }
        let negotiated = self.types.entry(packet.header.payload_type).or_insert_with(|| {
            let theirs = rtc.codec_config().match_params(*params)?.pt();
            rtc.media(self.slot)?.remote_pts().contains(&theirs).then_some(theirs)
        });
        let Some(payload_type) = *negotiated else {
            return Passed::Not;
        };
        let place = Place {
            source: packet.header.ssrc,
            sequence: *packet.seq_no,
            timestamp: packet.header.timestamp,
            at: packet.timestamp,
            clock_rate: params.spec().clock_rate.get(),
        };
        let Some((sequence, timestamp)) = self.renumber(&place) else {
            return Passed::Not;
        };
        let mut api = rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(self.slot, None) else {
            return Passed::Not;
        };
        // A fresh set of extensions: the publisher's MID and congestion control are not ours.
        let mut extensions = ExtensionValues {
            audio_level: packet.header.ext_vals.audio_level,
            voice_activity: packet.header.ext_vals.voice_activity,
            video_orientation: packet.header.ext_vals.video_orientation,
            ..ExtensionValues::default()
        };
        extensions.user_values.set(node.clone());
        stream.write_rtp(
            RtpWrite::new(
                payload_type,
                sequence,
                timestamp,
                packet.timestamp,
                packet.payload.clone(),
            )
            .marker(packet.header.marker)
            .nackable(params.spec().codec.is_video())
            .ext_vals(extensions),
        );
        Passed::On
    }

    /// The packet's place in the subscriber's stream; `None` for one from before the present source.
    fn renumber(&mut self, place: &Place) -> Option<(SeqNo, u32)> {
        if self.source != Some(place.source) {
            let (first, first_timestamp) = match &self.last {
                None => (FIRST_SEQUENCE, place.timestamp),
                Some(last) => {
                    let gap = place.at.saturating_duration_since(last.at).as_micros();
                    let ticks = gap * u128::from(place.clock_rate) / 1_000_000;
                    #[expect(clippy::cast_possible_truncation, reason = "RTP time is modulo 2^32")]
                    let ticks = (ticks as u32).max(1);
                    (last.sequence + 1, last.timestamp.wrapping_add(ticks))
                }
            };
            self.source = Some(place.source);
            self.sequence_offset = first.wrapping_sub(place.sequence);
            self.timestamp_offset = first_timestamp.wrapping_sub(place.timestamp);
            self.floor = first;
            self.types.clear();
        }
        let sequence = place.sequence.wrapping_add(self.sequence_offset);
        // Wrapped below the floor, it looks like a number near 2^64.
        if sequence.wrapping_sub(self.floor) > u64::MAX / 2 {
            return None;
        }
        let timestamp = place.timestamp.wrapping_add(self.timestamp_offset);
        if self.last.as_ref().is_none_or(|last| sequence > last.sequence) {
            self.last = Some(Last { sequence, timestamp, at: place.at });
        }
        Some((sequence.into(), timestamp))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place(source: u32, sequence: u64, timestamp: u32, at: Instant) -> Place {
        Place { source: source.into(), sequence, timestamp, at, clock_rate: 90_000 }
    }

    fn renumbered(forward: &mut Forward, place: &Place) -> Option<(u64, u32)> {
        forward.renumber(place).map(|(sequence, timestamp)| (*sequence, timestamp))
    }

    #[test]
    fn a_late_subscriber_begins_where_srtp_counts_no_roll_over() {
        let (mut forward, at) = (Forward::new("v".into()), Instant::now());
        let first = renumbered(&mut forward, &place(1, 5_000_000, 7, at));
        assert_eq!(first, Some((FIRST_SEQUENCE, 7)));
        let second = renumbered(&mut forward, &place(1, 5_000_002, 3_007, at));
        assert_eq!(second, Some((FIRST_SEQUENCE + 2, 3_007)), "a gap stays a gap");
        let between = renumbered(&mut forward, &place(1, 5_000_001, 7, at));
        assert_eq!(between, Some((FIRST_SEQUENCE + 1, 7)), "what is late keeps its place");
    }

    #[test]
    fn what_was_sent_before_the_first_packet_has_no_place() {
        let (mut forward, at) = (Forward::new("v".into()), Instant::now());
        assert!(renumbered(&mut forward, &place(1, 5_000, 0, at)).is_some());
        assert_eq!(renumbered(&mut forward, &place(1, 4_999, 0, at)), None);
    }

    #[test]
    fn a_slot_that_was_without_a_track_goes_on_where_it_was_even_for_the_same_ssrc() {
        let (mut forward, at) = (Forward::new("v".into()), Instant::now());
        renumbered(&mut forward, &place(1, 10, 0, at));
        renumbered(&mut forward, &place(1, 11, 0, at));
        let mut forward = forward.parted();
        let next = renumbered(&mut forward, &place(1, 5, 7, at));
        assert_eq!(next, Some((FIRST_SEQUENCE + 2, 1)));
    }

    #[test]
    fn another_source_goes_on_where_the_last_one_was_by_the_time_that_passed() {
        let (mut forward, at) = (Forward::new("v".into()), Instant::now());
        renumbered(&mut forward, &place(1, 10, u32::MAX - 100, at));
        let after = at + Duration::from_millis(10);
        let other = renumbered(&mut forward, &place(2, 60_000, 5, after));
        assert_eq!(other, Some((FIRST_SEQUENCE + 1, 799)), "900 ticks later, beyond the wrap");
        let next = renumbered(&mut forward, &place(2, 60_001, 6, after));
        assert_eq!(next, Some((FIRST_SEQUENCE + 2, 800)));
    }
}
