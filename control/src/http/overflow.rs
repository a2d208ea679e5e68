//! Rooms that this cluster does not take: another one does, or nobody does now.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{Api, problem::Problem, rooms::TENANT};
use crate::{
    placement::Wanted,
    rooms::{Placed, RoomError},
};

/// What a call says in its query that another cluster has sent here: it is not sent on again, so that
/// two full clusters do not play ball with it.
const HOP: &str = "onevip-hop";

/// Where else rooms may go.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// The public URLs of other clusters.
    clusters: Vec<String>,
    /// Rooms that this one takes; `None`: as many as its nodes do.
    rooms: Option<usize>,
    /// Whose turn it is.
    next: AtomicUsize,
}

impl Overflow {
    pub(super) fn new(clusters: &[String], rooms: Option<usize>) -> Self {
        let clusters = clusters.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Self { clusters, rooms, next: AtomicUsize::default() }
    }

    /// The same call at another cluster.
    fn elsewhere(&self, uri: &Uri) -> Option<String> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(self.clusters.len())?;
        if uri.query().is_some_and(|query| query.split('&').any(is_hop)) {
            return None;
        }
        Some(hop(self.clusters.get(at)?, uri))
    }
}

/// The same call at a cluster, which is not to send it on.
pub(super) fn hop(cluster: &str, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if uri.query().is_some_and(|query| query.split('&').any(is_hop)) {
        return format!("{cluster}{path}");
    }
    let mark = if uri.query().is_some() { '&' } else { '?' };
    format!("{cluster}{path}{mark}{HOP}=1")
}

fn is_hop(pair: &str) -> bool {
    pair.split('=').next() == Some(HOP)
}

/// Where a room went.
pub(super) enum Taken {
    /// A node of this cluster has it.
    Here(Placed),
    /// Another cluster is to be asked.
    Elsewhere(Response),
}

/// Places a room for whoever wants to be in it, or says where else to ask.
///
/// # Errors
/// 503 where nobody takes it, and others.
pub(super) async fn place(
    api: &Api,
    room: &str,
    wanted: &Wanted,
    uri: &Uri,
) -> Result<Taken, Problem> {
    let overflow = api.overflow();
    let is_full = overflow.rooms.is_some_and(|most| api.sight.look(|seen| seen.rooms()) >= most);
    let placed = match is_full && api.rooms.find(TENANT, room).await?.is_none() {
        true => Err(RoomError::NoNode),
        false => api.rooms.place(TENANT, room, wanted).await,
    };
    match placed {
        Ok(placed) => Ok(Taken::Here(placed)),
        Err(RoomError::NoNode) => match overflow.elsewhere(uri) {
            Some(url) => redirect(&url).map(Taken::Elsewhere),
            None => {
                let problem = "no node can take the room now, and no other cluster is to be asked";
                Err(Problem::unavailable("no_node", problem))
            }
        },
        Err(error) => Err(error.into()),
    }
}

/// The same call, with its method and body, is to be made there.
pub(super) fn redirect(url: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(url)
        .map_err(|_| Problem::unavailable("no_node", "the other cluster's URL cannot be said"))?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_sent_on_as_it_came_to_each_in_turn_and_never_twice() {
        let urls = ["https://a.example".to_owned(), "https://b.example/".to_owned()];
        let overflow = Overflow::new(&urls, None);
        let elsewhere = |uri: &'static str| overflow.elsewhere(&Uri::from_static(uri));
        for (uri, location) in [
            ("/whip/a", "https://a.example/whip/a?onevip-hop=1"),
            ("/whip/a?x=1&y=%20", "https://b.example/whip/a?x=1&y=%20&onevip-hop=1"),
        ] {
            assert_eq!(elsewhere(uri).as_deref(), Some(location));
        }
        for uri in ["/whip/a?onevip-hop=1", "/whip/a?x=1&onevip-hop", "/a?onevip-hop=0&b"] {
            assert_eq!(elsewhere(uri), None, "{uri}");
        }
        assert!(elsewhere("/whip/a?not-onevip-hop=1").is_some());
        assert_eq!(Overflow::default().elsewhere(&Uri::from_static("/whip/a")), None);
    }
}
