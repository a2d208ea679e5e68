//! What clients ask by signalling: to come, to change something, to go.

use std::time::Instant;

use super::{
    InvalidFragment, InvalidOffer, Role, SessionId, WebRtc, fragment::Fragment, session::Session,
};
use crate::RoomName;

/// Why a client does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The offer is not one that can be answered.
    #[error(transparent)]
    Offer(#[from] InvalidOffer),
    /// The fragment is none.
    #[error(transparent)]
    Fragment(#[from] InvalidFragment),
    /// What is asked was meant for an ICE session that is not the present one.
    #[error("ICE was restarted since: the session has another entity tag")]
    Stale,
    /// The node is full.
    #[error("the node has no place for more sessions")]
    Full,
    /// The room is full.
    #[error("the room has no place for more participants")]
    RoomFull,
    /// There is nothing that a client could be told to send to.
    #[error("the node does not know the VIP's addresses yet")]
    NoCandidates,
    /// The node takes no new sessions now: it drains, or leaves.
    #[error("the node takes no new sessions")]
    Leaving,
    /// Nobody is there to answer any more.
    #[error("the node has stopped")]
    Stopped,
    /// There is no such session, or it has ended.
    #[error("there is no such session")]
    NoSession,
}

/// A new session and the answer to its offer.
#[derive(Debug)]
pub struct Joined {
    /// Names the session.
    pub id: SessionId,
    /// The SDP answer.
    pub answer: String,
    /// Names its ICE session: our ufrag.
    pub tag: String,
}

/// The answer to a further offer.
#[derive(Debug)]
pub struct Updated {
    /// The SDP answer.
    pub answer: String,
    /// Names the ICE session, which is another if the offer restarted ICE.
    pub tag: String,
}

/// What came of a fragment.
#[derive(Debug, Eq, PartialEq)]
pub enum Trickled {
    /// It told of candidates, which an ICE-lite agent does not need.
    Noted,
    /// It restarted ICE.
    Restarted {
        /// Our side of it, as a fragment.
        fragment: String,
        /// Names the ICE session.
        tag: String,
    },
}

/// For which ICE sessions a change is meant (RFC 9110, section 13.1.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IfMatch {
    /// For whichever there is.
    Any,
    /// For one that bears one of these tags.
    Tags(Vec<String>),
}

impl IfMatch {
    fn check(&self, tag: &str) -> Result<(), Refused> {
        match self {
            Self::Any => Ok(()),
            Self::Tags(tags) if tags.iter().any(|meant| meant == tag) => Ok(()),
            Self::Tags(_) => Err(Refused::Stale),
        }
    }
}

impl WebRtc {
    /// Takes a client into a room.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn join(
        &mut self,
        now: Instant,
        room: RoomName,
        role: Role,
        offer: &str,
    ) -> Result<Joined, Refused> {
        let candidates = self.candidates.load_full();
        if candidates.is_empty() {
            return Err(Refused::NoCandidates);
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refused::Full)?;
        if self.rooms.is_full(&room) {
            return Err(Refused::RoomFull);
        }
        let credentials = self.credentials();
        let tag = credentials.ufrag.clone();
        let id = SessionId::random();
        let (template, told) = (&self.template, candidates.clone());
        let mut session =
            Session::new(now, id.clone(), template, role, credentials.clone(), told, place);
        let answer = session.answer(offer, &candidates, || credentials)?;
        let key = self.sessions.insert(session);
        self.rooms.join(&room, key, role == Role::Mirrored);
        self.tell_sessions();
        self.settle(now, key);
        Ok(Joined { id, answer: answer.sdp, tag })
    }

    /// Answers a further offer of a session: more tracks, or an ICE restart, which gets another
    /// ufrag of this node.
    ///
    /// # Errors
    /// [`Refused`]. The session goes on with the credentials it had, and with media lines as far as
    /// the offer was right; it has ended if the WebRTC library failed.
    pub fn update(
        &mut self,
        now: Instant,
        id: &SessionId,
        meant: Option<&IfMatch>,
        offer: &str,
    ) -> Result<Updated, Refused> {
        let key = self.sessions.with_id(id).ok_or(Refused::NoSession)?;
        let credentials = self.credentials();
        let session = self.sessions.get_mut(key).ok_or(Refused::NoSession)?;
        meant.map_or(Ok(()), |meant| meant.check(session.tag()))?;
        let answer = session.answer(offer, &self.candidates.load(), || credentials);
        let tag = session.tag().to_owned();
        let answer = answer.map(|answer| {
            if let Some(renamed) = answer.renamed {
                // The old ufrag stays until a third comes, so that requests on their way still count
                // as ours.
                self.sessions.renamed(key, renamed.new, renamed.forgotten);
            }
            Updated { answer: answer.sdp, tag }
        });
        self.tell_sessions();
        self.settle(now, key);
        Ok(answer?)
    }

    /// Takes a fragment of SDP: candidates of the client's, or new credentials, by which it restarts
    /// ICE without an offer (RFC 9725, section 4.3).
    ///
    /// A restart that is asked for again gets the same answer: the first one may have been lost.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn trickle(
        &mut self,
        now: Instant,
        id: &SessionId,
        meant: &IfMatch,
        fragment: &str,
    ) -> Result<Trickled, Refused> {
        let key = self.sessions.with_id(id).ok_or(Refused::NoSession)?;
        let credentials = self.credentials();
        let session = self.sessions.get_mut(key).ok_or(Refused::NoSession)?;
        meant.check(session.tag())?;
        let Fragment { credentials: theirs } = session.read(fragment)?;
        let renamed = match theirs {
            None if *meant == IfMatch::Any => return Err(InvalidFragment::no_credentials().into()),
            None => return Ok(Trickled::Noted),
            Some(theirs) if session.is_with(&theirs) => {
                if *meant != IfMatch::Any {
                    return Ok(Trickled::Noted);
                }
                None
            }
            Some(theirs) => Some(session.restart(theirs, credentials)?),
        };
        let fragment = session.fragment(&self.candidates.load());
        let tag = session.tag().to_owned();
        if let Some(renamed) = renamed {
            self.sessions.renamed(key, renamed.new, renamed.forgotten);
            self.tell_sessions();
        }
        self.settle(now, key);
        Ok(Trickled::Restarted { fragment, tag })
    }

    /// Ends a session at its client's wish.
    ///
    /// # Errors
    /// [`Refused::NoSession`].
    pub fn leave(&mut self, now: Instant, id: &SessionId) -> Result<(), Refused> {
        let key = self.sessions.with_id(id).ok_or(Refused::NoSession)?;
        if let Some(session) = self.sessions.get_mut(key) {
            session.close();
        }
        self.settle(now, key);
        self.end(now, key);
        Ok(())
    }
}
