use std::{collections::HashMap, time::Instant};

use str0m::{
    media::{Mid, Pt},
    rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo, Ssrc},
};

use super::{extension::NodeName, session::Session};

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

/// Whether a packet was passed on, and if not, whether the publisher or the network is to blame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passed {
    On,
    /// The subscriber is not ready for it, or cannot decode it, or it is from before a change.
    Not,
    TooLong,
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

    pub(super) const fn slot(&self) -> Mid {
        self.slot
    }

    /// Writes a packet into the subscriber's slot.
    pub(super) fn pass(
        &mut self,
        packet: &RtpPacket,
        params: &str0m::format::PayloadParams,
        subscriber: &mut Session,
        node: &NodeName,
    ) -> Passed {
        // What is written before the transport is up is queued without bound, and what is written
        // to a line that does not send is sent all the same.
        let rtc = &mut subscriber.rtc;
        let sending = rtc.media(self.slot).is_some_and(|media| media.direction().is_sending());
        if !subscriber.connected || !sending {
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
        let clock_rate = params.spec().clock_rate.get();
        let Some((sequence, timestamp)) = self.renumber(packet, clock_rate) else {
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
    fn renumber(&mut self, packet: &RtpPacket, clock_rate: u32) -> Option<(SeqNo, u32)> {
        let (sequence, timestamp) = (*packet.seq_no, packet.header.timestamp);
        if self.source != Some(packet.header.ssrc) {
            let (first, first_timestamp) = match &self.last {
                None => (FIRST_SEQUENCE, timestamp),
                Some(last) => {
                    let gap = packet.timestamp.saturating_duration_since(last.at).as_micros();
                    let ticks = gap * u128::from(clock_rate) / 1_000_000;
                    #[expect(clippy::cast_possible_truncation, reason = "RTP time is modulo 2^32")]
                    let ticks = (ticks as u32).max(1);
                    (last.sequence + 1, last.timestamp.wrapping_add(ticks))
                }
            };
            self.source = Some(packet.header.ssrc);
            self.sequence_offset = first.wrapping_sub(sequence);
            self.timestamp_offset = first_timestamp.wrapping_sub(timestamp);
            self.floor = first;
            self.types.clear();
        }
        let sequence = sequence.wrapping_add(self.sequence_offset);
        // Wrapped below the floor, it looks like a number near 2^64.
        if sequence.wrapping_sub(self.floor) > u64::MAX / 2 {
            return None;
        }
        let timestamp = timestamp.wrapping_add(self.timestamp_offset);
        if self.last.as_ref().is_none_or(|last| sequence > last.sequence) {
            self.last = Some(Last { sequence, timestamp, at: packet.timestamp });
        }
        Some((sequence.into(), timestamp))
    }
}
