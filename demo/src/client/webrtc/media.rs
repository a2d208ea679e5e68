//! What a client sends and receives.

use std::time::Instant;

use sfu::rtc::NodeName;
use str0m::{
    Input,
    format::Codec,
    media::{MediaKind, Mid},
    rtp::{RtpPacket, RtpWrite},
};

use super::agent::Agent;
use crate::client::log::{Sent, media, read_media};

/// Number of a client's audio stream. What of it is lost stays lost.
pub const AUDIO: u8 = 0;

/// Number of a client's video stream. What of it is lost is sent again when the receiver asks (NACK).
pub const VIDEO: u8 = 1;

/// Bytes of an audio and of a video payload.
const AUDIO_LEN: usize = 120;
pub(super) const VIDEO_LEN: usize = 1_000;

/// A track that the client sends.
pub(super) struct Track {
    pub(super) mid: Mid,
    pub(super) kind: MediaKind,
    pub(super) sequence: u32,
}

impl Agent {
    /// Writes what is due of each track.
    pub(super) fn send_media(&mut self) {
        let now = Instant::now();
        if self.log.read().connected.is_none() {
            return;
        }
        self.ticks += 1;
        for track in &mut self.tracks {
            let (stream, codec, length, clock) = match track.kind {
                MediaKind::Audio => (AUDIO, Codec::Opus, AUDIO_LEN, 960),
                MediaKind::Video => (VIDEO, Codec::Vp8, self.options.video_len, 1_800),
            };
            if track.kind == MediaKind::Video && self.ticks % 2 == 1 {
                continue;
            }
            let params = self.rtc.codec_config().find(|params| params.spec().codec == codec);
            let Some(payload_type) = params.map(|params| params.pt()) else {
                continue;
            };
            let mut api = self.rtc.direct_api();
            let Some(tx) = api.stream_tx_by_mid(track.mid, None) else {
                continue;
            };
            let sent = Sent { stream, sequence: track.sequence, at: now };
            let payload = media(self.options.number, &sent, length);
            let timestamp = self.ticks.wrapping_mul(clock);
            tx.write_rtp(
                RtpWrite::new(
                    payload_type,
                    u64::from(track.sequence).into(),
                    timestamp,
                    now,
                    payload,
                )
                .marker(track.kind == MediaKind::Video)
                .nackable(track.kind == MediaKind::Video),
            );
            track.sequence += 1;
            self.log.write(|record| record.sent.push(sent));
        }
        let _reported = self.rtc.handle_input(Input::Timeout(now));
    }

    pub(super) fn note_media(&mut self, packet: &RtpPacket, now: Instant) {
        let name = packet.header.ext_vals.user_values.get::<NodeName>();
        let received = read_media(&packet.payload, now, None);
        if received.is_some_and(|received| received.stream == VIDEO) {
            let stream = self.rtc.direct_api().stream_rx(&packet.header.ssrc).map(|rx| rx.mid());
            self.received_video.extend(stream);
        }
        self.log.write(|record| {
            match name {
                Some(NodeName(name)) => *record.nodes.entry(name.to_string()).or_default() += 1,
                None => record.unnamed += 1,
            }
            record.received.extend(received);
        });
    }
}
