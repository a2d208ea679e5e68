//! Writes the seeds again: `cargo run -p fuzz --bin seeds`. They come from the vectors and from
//! other people's code, one small file for each thing a target should know of.

use std::{fs, io, path::Path};

use kit::{Connection, Hello, Routing, stun, tunnelled};
use wire::FiveTuple;

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, contents: &[Vec<u8>]| -> io::Result<()> {
        let folder = seeds.join(target);
        fs::create_dir_all(&folder)?;
        for (index, bytes) in contents.iter().enumerate() {
            fs::write(folder.join(format!("{index:02}")), bytes)?;
        }
        Ok(())
    };

    let samples = fuzz::samples();
    write("class", &samples)?;
    let routing = Routing::encrypted(0).verified();
    let (client, vip) = (kit::address("198.51.100.1:5000"), kit::address("192.0.2.1:4433"));
    let ufrag = routing.ufrag(&[0, 0, 0, 10], 1);
    let stuns = [
        stun::check(&format!("{ufrag}:cli"), &routing.password(&ufrag), [1; 12]),
        stun::success(client, "password", [2; 12]),
        stun::success(kit::address("[2001:db8::1]:5000"), "password", [3; 12]),
        stun::error(487, [4; 12]),
        stun::indication([5; 12]),
    ];
    write("stun", &stuns)?;

    let hellos = [
        Hello::named("sfu.example.test").bytes(),
        Hello::named("a.b").post_quantum().bytes(),
        Hello::nameless().bytes(),
    ];
    write("client_hello", &hellos)?;
    let connection = Connection::v1(b"original", b"source");
    let mut initials = connection.split_hello(&hellos[1], &[1_000]);
    initials.push(Connection::v2(b"original", b"").hello(&hellos[0]));
    initials.extend(connection.chrome_hello(&hellos[1], 60));
    write("initial", &initials)?;
    let crypto = |offset: u8, data: &[u8]| {
        [&[0x06, offset, u8::try_from(data.len()).unwrap_or(0)][..], data].concat()
    };
    let frames = [
        [crypto(0, b"\x01\x00\x00\x04"), vec![0; 4], crypto(4, b"tail"), vec![1]].concat(),
        [vec![0x02, 1, 0, 1, 0, 0, 0], crypto(2, b"gap"), vec![0x1c, 0, 0, 2, b'n', b'o']].concat(),
        [vec![0x03, 9, 0, 0, 2, 1, 1, 1], crypto(0, b"")].concat(),
    ];
    write("frames", &frames)?;

    let id = routing.cid(&[0, 0, 0, 10], 7);
    write("quic_lb", &[(0..60).collect(), id, vec![0xff; 60]])?;
    let label = routing.label(&[0, 0, 0, 10], 7);
    write(
        "carrier",
        &[ufrag.into_bytes(), label.clone().into_bytes(), format!("{label}.x").into_bytes()],
    )?;
    let six = FiveTuple::new(kit::address("[2001:db8::1]:1"), kit::address("[2001:db8::2]:2"));
    let tunnels = [tunnelled(&FiveTuple::new(client, vip), b"payload"), tunnelled(&six, b"")];
    write("tunnel", &tunnels)?;
    let fleet = kit::FleetText::new(&[routing])
        .node(kit::Node::new("sfu-a", client).server_id(&[0, 0, 0, 10]).state("draining"))
        .session(kit::Session::new("abcd", "sfu-a").client_ufrag("wxyz"));
    write("fleet_file", &[fleet.to_string().into_bytes(), b"[[node]]\nid = \"a\"\n".to_vec()])?;
    // Operations are decoded from any bytes; runs of one value repeat one kind of operation.
    let mut engine: Vec<Vec<u8>> = (0..8_u8).map(|fill| vec![fill.wrapping_mul(37); 400]).collect();
    engine.push((0..1_200_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect());
    write("engine", &engine)
}
