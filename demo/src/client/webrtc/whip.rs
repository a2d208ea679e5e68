//! Publishing by WHIP (RFC 9725), playing by WHEP, and how such clients restart ICE.

use std::{net::SocketAddr, sync::PoisonError};

use super::{ClientError, Command, WebRtcClient, WebRtcOptions, credentials};
use crate::client::signalling::ask_by_fragment;

impl WebRtcClient {
    /// Publishes audio and video into a room, through a node's signalling, or through control's with a
    /// token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(
        node: (SocketAddr, Option<&str>),
        vip: SocketAddr,
        room: &str,
        number: u32,
    ) -> Result<Self, ClientError> {
        let options = WebRtcOptions { slots: 0, ..WebRtcOptions::new(number) };
        Self::begin(node, vip, format!("/whip/{room}"), options).await
    }

    /// Plays what is published in a room, as many tracks of each kind: through a node's signalling, or
    /// through control's with a token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn play(
        node: (SocketAddr, Option<&str>),
        vip: SocketAddr,
        room: &str,
        number: u32,
        slots: usize,
    ) -> Result<Self, ClientError> {
        let options = WebRtcOptions { silent: true, slots, ..WebRtcOptions::new(number) };
        Self::begin(node, vip, format!("/whep/{room}"), options).await
    }

    /// Restarts ICE without an offer: the node gets the new credentials in a fragment of SDP, and its
    /// own are put into the answer that the client has. Says what they are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restart_ice_by_fragment(&self) -> Result<(String, String), ClientError> {
        let offer = self.tell(|reply| Command::Offer { restart: true, more_slots: 0, reply });
        let (ufrag, password) = credentials(&offer.await?.map_err(ClientError::WebRtc)?);
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
        let fragment = ask_by_fragment(self.node, self.location.clone(), fragment).await?.body;
        let answer = {
            let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            let (former, new) = (credentials(&answer), credentials(&fragment));
            *answer = answer.replace(&former.0, &new.0).replace(&former.1, &new.1);
            answer.clone()
        };
        let taken = self.tell(|reply| Command::Answer(answer, reply)).await?;
        taken.map_err(ClientError::WebRtc)?;
        Ok(credentials(&fragment))
    }
}
