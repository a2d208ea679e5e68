//! A session's credentials and the client's: how they are agreed on, and what becomes of them.

use std::net::SocketAddr;

use str0m::IceCreds;
use wire::stun;

use super::{Panicked, Session};
use crate::rtc::{
    fragment::{self, Fragment, InvalidFragment},
    sdp::{self, InvalidOffer},
};

/// The answer to an offer, and whether the session is called by other ufrags from now on.
pub(in crate::rtc) struct Answered {
    pub(in crate::rtc) sdp: String,
    pub(in crate::rtc) renamed: Option<Renamed>,
}

/// After a restart of ICE.
pub(in crate::rtc) struct Renamed {
    pub(in crate::rtc) new: String,
    /// The ufrag that is not known any more.
    pub(in crate::rtc) forgotten: Option<String>,
}

impl Session {
    /// Ours, the newest first.
    pub(in crate::rtc) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.credentials.iter().map(|credentials| credentials.ufrag.as_str())
    }

    #[cfg(test)]
    pub(in crate::rtc) fn credentials(&self) -> IceCreds {
        self.credentials[0].clone()
    }

    /// Answers an offer, with the credentials that `fresh` gives if it restarts ICE.
    pub(in crate::rtc) fn answer(
        &mut self,
        offer: &str,
        candidates: &[SocketAddr],
        fresh: impl FnOnce() -> IceCreds,
    ) -> Result<Answered, InvalidOffer> {
        let (former, role) = (self.remote.clone(), self.role);
        let answer = self
            .guarded(|rtc| sdp::answer(rtc, former.as_ref(), offer, role, candidates, fresh))
            .map_err(|Panicked(problem)| InvalidOffer(problem))??;
        self.remote = Some(answer.remote);
        self.first = answer.first;
        let renamed = answer.restarted.map(|ours| {
            self.sources.restarted();
            self.rename(ours)
        });
        Ok(Answered { sdp: answer.sdp, renamed })
    }

    /// Reads a client's fragment. What makes the parser panic ends this session and no other.
    pub(in crate::rtc) fn read(&mut self, fragment: &str) -> Result<Fragment, InvalidFragment> {
        self.guarded(|_| fragment::read(fragment))
            .map_err(|Panicked(problem)| InvalidFragment(problem))?
    }

    /// Restarts ICE without an offer. What str0m knows of the client's addresses stays, so they are not
    /// counted anew: an ICE-lite agent has no checks of its own to forget.
    pub(in crate::rtc) fn restart(
        &mut self,
        theirs: IceCreds,
        ours: IceCreds,
    ) -> Result<Renamed, InvalidFragment> {
        self.guarded(|rtc| {
            let mut api = rtc.direct_api();
            api.set_local_ice_credentials(ours.clone());
            api.set_remote_ice_credentials(theirs.clone());
        })
        .map_err(|Panicked(problem)| InvalidFragment(problem))?;
        self.remote = Some(theirs);
        Ok(self.rename(ours))
    }

    fn rename(&mut self, ours: IceCreds) -> Renamed {
        let new = ours.ufrag.clone();
        self.credentials.insert(0, ours);
        let forgotten = self.credentials.drain(2..).next();
        Renamed { new, forgotten: forgotten.map(|credentials| credentials.ufrag) }
    }

    /// Names the present ICE session: our newest ufrag.
    pub(in crate::rtc) fn tag(&self) -> &str {
        &self.credentials[0].ufrag
    }

    /// Whether these are the client's credentials now.
    pub(in crate::rtc) fn is_with(&self, theirs: &IceCreds) -> bool {
        self.remote.as_ref() == Some(theirs)
    }

    /// What a client is told about the present ICE session, besides an answer.
    pub(in crate::rtc) fn fragment(&self, candidates: &[SocketAddr]) -> String {
        fragment::write(&self.credentials[0], self.first, candidates)
    }

    /// Whether a request was made by someone who knows the password that goes with this ufrag.
    pub(in crate::rtc) fn is_authentic(&self, ufrag: &[u8], request: &stun::Message<'_>) -> bool {
        let named = |ours: &&IceCreds| ours.ufrag.as_bytes() == ufrag;
        let ours = self.credentials.iter().find(named);
        ours.is_some_and(|ours| request.verify_integrity(ours.pass.as_bytes()))
    }
}
