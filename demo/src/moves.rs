//! How clients change their address.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use crate::{
    client::{ClientError, WebRtcClient, WebTransportClient},
    switch::{Hop, Moved, Switch},
};

/// Why a client's address changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A NAT forgets: the client's socket is what it was, and the client knows nothing.
    Rebinding,
    /// The client opens another socket.
    NewSocket,
}

/// One change of address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Why.
    pub cause: Cause,
    /// What of it changes.
    pub hop: Hop,
}

impl Change {
    /// Causes take turns, and so does what changes: each cause comes with each hop in any four turns
    /// in a row.
    #[must_use]
    pub const fn nth(turn: usize) -> Self {
        let cause = if turn.is_multiple_of(2) { Cause::Rebinding } else { Cause::NewSocket };
        let hop = if (turn / 2).is_multiple_of(2) { Hop::Port } else { Hop::Network };
        Self { cause, hop }
    }

    /// Changes a client's address. Says what has changed, and since when: whatever the client sends
    /// from that instant on takes the new way.
    ///
    /// # Errors
    /// Those of the system, and of the client when it has ended; a change that was none.
    pub async fn of(
        self,
        client: &impl Mobile,
        switch: &Switch,
    ) -> Result<(Moved, Instant), ClientError> {
        let former = client.address()?;
        match self.cause {
            Cause::Rebinding => Ok((switch.rebind(former, self.hop)?, Instant::now())),
            Cause::NewSocket => {
                let socket = UdpSocket::bind((former.ip(), 0))?;
                let moved = switch.admit(socket.local_addr()?, former, self.hop)?;
                Ok((moved, client.use_socket(socket).await?))
            }
        }
    }
}

/// A client that can be moved.
pub trait Mobile: Sync {
    /// The address of the socket it uses.
    ///
    /// # Errors
    /// Those of the system.
    fn address(&self) -> io::Result<SocketAddr>;

    /// Uses another socket, since the instant that is returned.
    fn use_socket(
        &self,
        socket: UdpSocket,
    ) -> impl Future<Output = Result<Instant, ClientError>> + Send;
}

impl Mobile for WebRtcClient {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr())
    }

    async fn use_socket(&self, socket: UdpSocket) -> Result<Instant, ClientError> {
        self.move_to(socket).await
    }
}

impl Mobile for WebTransportClient {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn use_socket(&self, socket: UdpSocket) -> Result<Instant, ClientError> {
        self.move_to(socket)?;
        Ok(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_comes_with_each_hop_in_any_four_turns() {
        for first in 0..8 {
            for cause in [Cause::Rebinding, Cause::NewSocket] {
                for hop in [Hop::Port, Hop::Network] {
                    let turns = (first..first + 4)
                        .filter(|&turn| Change::nth(turn) == Change { cause, hop });
                    assert_eq!(turns.count(), 1, "{cause:?}, {hop:?} from turn {first}");
                }
            }
        }
    }
}
