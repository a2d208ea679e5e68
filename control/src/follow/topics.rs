//! What of a store is followed: who has no use for the rest is not told of it, and need not be allowed to
//! read it.

use crate::{
    records,
    store::{Entry, Revision, Span, Store, StoreError, all},
};

/// Who follows, and so what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topics {
    /// A control: everything.
    All,
    /// An LB: nodes, routing and sessions, by one watch, so that its fleet is always of one revision.
    Lb,
    /// A node: other nodes, routing, LBs and VIPs. There are many nodes, and all that rooms and sessions
    /// do is kept from them; so these are watches of their own.
    Node,
}

impl Topics {
    /// All entries that say something about the fleet, of one revision.
    pub(crate) async fn list<S: Store>(
        self,
        store: &S,
    ) -> Result<(Vec<Entry>, Revision), StoreError> {
        let prefixes: &[&str] = match self {
            Self::All => &[
                records::ROUTING,
                records::MEMBERS,
                records::NODES,
                records::SESSIONS,
                records::BALANCERS,
                records::VIPS,
            ],
            Self::Lb => &[records::ROUTING, records::MEMBERS, records::NODES, records::SESSIONS],
            Self::Node => &[
                records::ROUTING,
                records::MEMBERS,
                records::NODES,
                records::BALANCERS,
                records::VIPS,
            ],
        };
        let mut at = None;
        let mut entries = Vec::new();
        for prefix in prefixes {
            let (some, revision) = all(store, prefix, at).await?;
            at = Some(revision);
            entries.extend(some);
        }
        Ok((entries, at.unwrap_or_default()))
    }

    /// What is watched.
    pub(super) const fn spans(self) -> &'static [Span<'static>] {
        match self {
            Self::All => &[Span::Prefix("")],
            Self::Lb => &[records::FOR_LBS],
            Self::Node => &[
                Span::Prefix(records::NODES_ALL),
                Span::Prefix(records::ROUTING),
                Span::Prefix(records::BALANCERS),
                Span::Prefix(records::VIPS),
            ],
        }
    }
}
