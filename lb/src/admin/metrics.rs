//! What an LB has counted, as Prometheus scrapes it.

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use control::{
    exposition::{self, Exposition},
    fleet,
    freshness::Freshness,
};
use tokio::task;

use super::Admin;
use crate::{
    counters::{
        ClassLabel, Counter, Counters, Direction, IcmpLabel, Side, SocketLabel, TableLabel,
        VerdictLabel,
    },
    load_balancer::Census,
    verdict::{DropReason, Route},
};

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let lb = admin.lb.clone();
    // Workers answer between two batches, so this may wait.
    let counted = task::spawn_blocking(move || {
        lb.count_overflow();
        let mut census = lb.ask_traffic();
        census.wait();
        census
    });
    let text = match counted.await {
        Ok(census) => render(&admin, &census),
        Err(_) => String::new(),
    };
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text)
}

pub(super) fn render(admin: &Admin, census: &Census) -> String {
    let lb = &admin.lb;
    let sum = |pick: &dyn Fn(&Counters) -> &Counter| -> u64 {
        lb.counters().map(|counters| pick(counters).value()).sum()
    };
    let mut out = Exposition::new();
    let mut family = out.counter("onevip_lb_datagrams_total", "Datagrams received.");
    for &direction in Direction::ALL {
        for &class in ClassLabel::ALL {
            let labels = [("direction", direction.label()), ("class", class.label())];
            family = family.sample(&labels, sum(&|counters| counters.datagrams(direction, class)));
        }
    }
    out.counter("onevip_lb_bytes_total", "Bytes of those datagrams, without tunnel headers.")
        .samples("direction", Direction::ALL, |&&direction| {
            (direction.label(), sum(&|counters| counters.bytes(direction)))
        });
    out.counter("onevip_lb_verdicts_total", "What became of each datagram received.").samples(
        "verdict",
        VerdictLabel::ALL,
        |&&verdict| (verdict.label(), sum(&|counters| counters.verdicts(verdict))),
    );
    out.counter("onevip_lb_routes_total", "What decided where a client's datagram went.").samples(
        "by",
        Route::ALL,
        |&&by| (by.label(), sum(&|counters| counters.routes(by))),
    );
    out.counter("onevip_lb_drops_total", "Why datagrams were dropped, or a flow was refused.")
        .samples("reason", DropReason::ALL, |&&reason| {
            (reason.label(), sum(&|counters| counters.drops(reason)))
        });
    out.counter("onevip_lb_batches_total", "Times that datagrams were received together.")
        .sample(&[], sum(&|counters| counters.batches()));
    let help = "Datagrams that the kernel dropped, since a socket had no room for them.";
    out.counter("onevip_lb_kernel_drops_total", help).samples(
        "socket",
        SocketLabel::ALL,
        |&&socket| (socket.label(), sum(&|counters| counters.overflow(socket))),
    );
    let help = "ICMP errors about datagrams that left by a socket of that kind.";
    let mut family = out.counter("onevip_lb_icmp_errors_total", help);
    for &socket in SocketLabel::ALL {
        for &why in IcmpLabel::ALL {
            let labels = [("socket", socket.label()), ("kind", why.label())];
            family = family.sample(&labels, sum(&|counters| counters.icmp(socket, why)));
        }
    }
    out.counter("onevip_lb_flow_moves_total", "Flows bound to another backend than before.")
        .sample(&[], sum(&|counters| counters.flow_moves()));
    out.counter("onevip_lb_evictions_total", "Entries that made room in a full table.").samples(
        "table",
        TableLabel::ALL,
        |&&table| (table.label(), sum(&|counters| counters.evictions(table))),
    );
    let entries = |table| sum(&|counters: &Counters| counters.entries(table));
    out.gauge("onevip_lb_flows", "Flows now.").sample(&[], entries(TableLabel::Flows));
    out.gauge("onevip_lb_flows_max", "Flows that there may be at most.")
        .sample(&[], lb.flows_max() as u64);
    out.gauge("onevip_lb_entries", "Entries of each bounded table now.").samples(
        "table",
        TableLabel::ALL,
        |&&table| (table.label(), entries(table)),
    );
    out.gauge("onevip_lb_nat_ports", "Sockets that datagrams for nat nodes leave from.")
        .sample(&[], sum(&|counters| counters.nat_ports()));
    out.gauge("onevip_lb_fleet_revision", "The fleet's revision that all workers decide by.")
        .sample(&[], lb.revision());
    out.gauge("onevip_lb_ready", "Whether clients should be sent here, as /readyz says.")
        .sample(&[], admin.why_not_ready().is_none().into());
    let help = "1 while the fleet in use may not be the newest: the log says why.";
    out.gauge("onevip_lb_fleet_old", help).sample(&[], admin.is_old().into());
    let help = "Records of the store that are left out of the fleet: the log names them.";
    let unreadable = admin.freshness.get().map_or(0, Freshness::unreadable);
    out.gauge("onevip_lb_fleet_unreadable_records", help).sample(&[], unreadable);
    let table = lb.table();
    out.gauge("onevip_lb_node_up", "Whether the node is up: by the fleet, and by its answers.")
        .samples("node", &table.fleet().nodes, |node| {
            let up = node.state != fleet::State::Down && table.answers(&node.id);
            (node.id.as_str(), up.into())
        });
    let by_node = census.by_node(&table);
    out.gauge("onevip_lb_node_flows", "Flows bound to the node now.").samples(
        "node",
        &by_node,
        |(node, traffic)| (node.as_str(), traffic.flows),
    );
    let help = "ICMP errors about datagrams that were for the node, or for its clients.";
    let mut family = out.counter("onevip_lb_node_icmp_errors_total", help);
    for (node, traffic) in &by_node {
        for &side in Side::ALL {
            for &why in IcmpLabel::ALL {
                let labels = [("node", node.as_str()), ("to", side.label()), ("kind", why.label())];
                family = family.sample(&labels, traffic.undelivered.count(side, why));
            }
        }
    }
    let numbers: Vec<_> = (table.fleet().routing.iter())
        .map(|routing| (routing.config.id(), routing.config.id().to_string()))
        .collect();
    out.counter("onevip_lb_config_uses_total", "IDs of a routing configuration that named a node.")
        .samples("config", &numbers, |(config, number)| {
            (number.as_str(), sum(&|counters| counters.config_uses(*config)))
        });
    out.render()
}
