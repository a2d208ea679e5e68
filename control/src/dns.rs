//! The answers of `/resolve` as DNS says them: authoritative for one zone, whose names are rooms and
//! VIPs. [`answer`](Responder::answer) is without I/O; sockets are in `serve`.
//!
//! A label that could be a room's name is one, whether it is placed or not: the VIP to use does not
//! depend on that. What is asked for is the best VIP that has an address of that kind, and only it, since
//! resolvers do not keep an order. Ports are not for DNS to say.

mod serve;

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{
            NS, SOA,
            opt::{ClientSubnet, EdnsCode, EdnsOption},
        },
    },
};
use serde::Deserialize;

use crate::{
    fleet::is_name,
    http::TENANT,
    observe::{Seen, Sight},
    resolve::{Choice, Locator, rank},
    rooms::NAME_MAX,
};

pub use serve::{bind, serve};

/// Longest answer by UDP, in bytes: none that is longer passes every network whole.
const UDP_MAX: u16 = 1232;

/// Longest answer by UDP to who does not say what it takes.
const UDP_MIN: u16 = 512;

/// Most servers of a zone.
const SERVERS_MAX: usize = 8;

/// How long secondaries, of which there are none, would wait.
const REFRESH: (i32, i32, i32) = (3600, 600, 86_400);

/// `[dns]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Where it is asked, by UDP and TCP.
    pub listen: SocketAddr,
    /// The zone.
    pub zone: String,
    /// Its servers, as those who delegate it know them; the first is told as the one with the zone.
    #[serde(default)]
    pub servers: Vec<String>,
}

/// Knows what to answer. Clones are the same.
#[derive(Clone, Debug)]
pub struct Responder {
    zone: Name,
    servers: Vec<Name>,
    sight: Sight,
}

impl DnsConfig {
    /// Ready to be asked about what is seen.
    ///
    /// # Errors
    /// The key and one sentence.
    pub fn responder(&self, sight: Sight) -> Result<Responder, (&'static str, String)> {
        let name = |text: &str| {
            let mut name = Name::from_ascii(text).ok()?;
            name.set_fqdn(true);
            (!name.is_root()).then_some(name)
        };
        let zone = name(&self.zone).ok_or_else(|| {
            ("dns.zone", format!("{:?} is not a name like \"rtc.example.test\"", self.zone))
        })?;
        // A room's label goes in front.
        if zone.len() > 180 {
            return Err(("dns.zone", "is too long for names in it".to_owned()));
        }
        if self.servers.len() > SERVERS_MAX {
            return Err(("dns.servers", format!("must be at most {SERVERS_MAX}")));
        }
        let servers: Option<Vec<_>> = self.servers.iter().map(|text| name(text)).collect();
        let servers = servers.ok_or_else(|| {
            ("dns.servers", "must be names like [\"ns1.example.test\"]".to_owned())
        })?;
        Ok(Responder { zone, servers, sight })
    }
}

/// What a name in the zone is.
enum Named {
    /// The zone itself.
    Zone,
    /// A VIP's name or a room's, in small letters.
    Label(String),
    /// Nothing.
    Nothing,
}

impl Responder {
    /// The answer to a message from somebody. `None`: there is none to give.
    #[must_use]
    pub fn answer(
        &self,
        message: &[u8],
        from: IpAddr,
        locator: &Locator,
        is_udp: bool,
    ) -> Option<Vec<u8>> {
        let asked = match Message::from_vec(message) {
            Ok(asked) => asked,
            Err(_) => {
                // Who has sent half a header is told nothing, nor is an answer answered.
                let header: [u8; 12] = message.get(..12)?.try_into().ok()?;
                let id = u16::from_be_bytes([header[0], header[1]]);
                let is_query = header[2] & 0x80 == 0;
                let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
                return is_query.then(|| error.to_vec().ok()).flatten();
            }
        };
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        let reply = self.reply(&asked, from, locator);
        let bytes = reply.to_vec().ok()?;
        let takes = asked.edns.as_ref().map_or(UDP_MIN, |edns| edns.max_payload().max(UDP_MIN));
        match is_udp && bytes.len() > usize::from(takes.min(UDP_MAX)) {
            true => reply.truncate().to_vec().ok(),
            false => Some(bytes),
        }
    }

    fn reply(&self, asked: &Message, from: IpAddr, locator: &Locator) -> Message {
        let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        reply.add_queries(asked.queries.iter().take(1).cloned());
        let mut edns = asked.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX);
            edns
        });
        let code = match (asked.metadata.op_code, asked.queries.as_slice()) {
            _ if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) => {
                ResponseCode::BADVERS
            }
            (OpCode::Query, [query]) => {
                let subnet = subnet(asked);
                let client = subnet.map_or(from, |subnet| subnet.addr());
                let code = self.query(query, client, locator, &mut reply);
                if let (Some(edns), Some(subnet)) = (&mut edns, subnet) {
                    // The answer holds for all of the network that was named.
                    let prefix = subnet.source_prefix();
                    let told = ClientSubnet::new(subnet.addr(), prefix, prefix);
                    edns.options_mut().insert(EdnsOption::Subnet(told));
                }
                code
            }
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        reply.metadata.response_code = code;
        if let Some(edns) = edns {
            reply.set_edns(edns);
        }
        reply
    }

    fn query(
        &self,
        query: &Query,
        client: IpAddr,
        locator: &Locator,
        reply: &mut Message,
    ) -> ResponseCode {
        let (name, kind) = (query.name(), query.query_type());
        let is_transfer = matches!(kind, RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer || !self.zone.zone_of(name) {
            return ResponseCode::Refused;
        }
        let ttl = u32::try_from(locator.ttl().as_secs()).unwrap_or(u32::MAX);
        let named = self.named(name);
        let choices = self.sight.look(|seen| {
            seen.is_ready().then(|| match &named {
                Named::Label(label) => choices(seen, label, client, locator),
                Named::Zone | Named::Nothing => Vec::new(),
            })
        });
        let Some(choices) = choices else { return ResponseCode::ServFail };
        reply.metadata.authoritative = true;
        let records: Vec<Record> = match &named {
            Named::Zone => self.of_zone(kind, ttl),
            Named::Label(_) => addresses(&choices, kind)
                .map(|ip| Record::from_rdata(name.clone(), ttl, address(ip)))
                .collect(),
            Named::Nothing => Vec::new(),
        };
        if records.is_empty() {
            reply.add_authority(self.soa(ttl));
        } else {
            reply.add_answers(records);
        }
        match named {
            Named::Nothing => ResponseCode::NXDomain,
            Named::Zone | Named::Label(_) => ResponseCode::NoError,
        }
    }

    /// What a name in the zone is.
    fn named(&self, name: &Name) -> Named {
        // Not by their own number, which leaves an asterisk out.
        let (labels, of_zone) = (name.iter().count(), self.zone.iter().count());
        match (labels.checked_sub(of_zone), name.iter().next()) {
            (Some(0), _) => Named::Zone,
            (Some(1), Some(label)) => {
                let label = std::str::from_utf8(label).map(str::to_ascii_lowercase);
                match label.ok().filter(|label| is_name(label, NAME_MAX)) {
                    Some(label) => Named::Label(label),
                    None => Named::Nothing,
                }
            }
            _ => Named::Nothing,
        }
    }

    fn of_zone(&self, kind: RecordType, ttl: u32) -> Vec<Record> {
        let server =
            |name: &Name| Record::from_rdata(self.zone.clone(), ttl, RData::NS(NS(name.clone())));
        match kind {
            RecordType::SOA => vec![self.soa(ttl)],
            RecordType::NS => self.servers.iter().map(server).collect(),
            _ => Vec::new(),
        }
    }

    fn soa(&self, ttl: u32) -> Record {
        let server = self.servers.first().unwrap_or(&self.zone).clone();
        let person = self.zone.prepend_label("hostmaster").unwrap_or_else(|_| self.zone.clone());
        let (refresh, retry, expire) = REFRESH;
        // Nobody copies the zone, so it has one number for ever.
        let soa = SOA::new(server, person, 1, refresh, retry, expire, ttl);
        Record::from_rdata(self.zone.clone(), ttl, RData::SOA(soa))
    }
}

/// The network that a resolver asks for (RFC 7871), where it names one.
fn subnet(asked: &Message) -> Option<ClientSubnet> {
    match asked.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) if subnet.source_prefix() > 0 => Some(*subnet),
        _ => None,
    }
}

/// The VIP of that name alone, or the VIPs for a room.
fn choices(seen: &Seen, label: &str, client: IpAddr, locator: &Locator) -> Vec<Choice> {
    let mut all = rank(seen, &locator.locate(client), seen.region_of(TENANT, label));
    if all.iter().any(|choice| choice.name.eq_ignore_ascii_case(label)) {
        all.retain(|choice| choice.name.eq_ignore_ascii_case(label));
    }
    all
}

/// The addresses that are asked for, of the best VIP that has any.
fn addresses(choices: &[Choice], kind: RecordType) -> impl Iterator<Item = IpAddr> {
    let is_asked = move |ip: &IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let mut best = choices.iter().map(|choice| {
        let all = choice.addresses.iter().map(|address| address.ip().to_canonical());
        let mut ips: Vec<_> = all.filter(is_asked).collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    });
    best.find(|ips| !ips.is_empty()).unwrap_or_default().into_iter()
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    }
}
