//! What reading a datagram costs. Beside each group stands its floor: the least that anybody could
//! spend on it.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kit::{Connection, Hello, Routing, quic, sample, stun};
use wire::{
    FiveTuple, carrier, classify,
    maglev::{self, HashKey, Member, Walk},
    quic::{CryptoStream, LongHeader, initial},
    quic_lb::Configs,
    stun::Message,
    tls::ClientHello,
    tunnel,
};

const SERVER: [u8; 4] = [0, 0, 0, 10];

fn classes(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    let check = stun::check("abcd:wxyz", "password", [1; 12]);
    let samples = [
        ("stun", check),
        ("dtls", sample::dtls()),
        ("srtp", sample::srtp()),
        ("quic_short", quic::short(&[1; 17], &[0; 1_000])),
        ("quic_long", Connection::v1(&[1; 17], b"s").handshake(&[0; 1_000])),
    ];
    for (name, datagram) in &samples {
        group.bench_function(*name, |b| b.iter(|| classify(black_box(datagram))));
    }
    group.bench_function("floor: read one byte", |b| {
        b.iter(|| black_box(&samples[0].1).first().copied());
    });
    group.finish();
}

fn routing_ids(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let forms = [
        ("plain", Routing::plain(0), &SERVER[..]),
        ("single pass", Routing::encrypted(0), &SERVER),
        ("four passes, 3 AES", Routing::encrypted(0).lengths(3, 8), &SERVER[..3]),
        ("four passes, 4 AES", Routing::encrypted(0).lengths(8, 4), &[1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    for (name, routing, server_id) in forms {
        let cid = routing.cid(server_id, 1);
        let mut configs = Configs::new();
        configs.insert(routing.codec());
        group.bench_function(name, |b| b.iter(|| configs.server_id(black_box(&cid))));
    }
    let mut configs = Configs::new();
    configs.insert(Routing::encrypted(0).codec());
    let ufrag = Routing::encrypted(0).ufrag(&SERVER, 1);
    group.bench_function("ufrag, single pass", |b| {
        b.iter(|| {
            let id = carrier::decode_ufrag(black_box(ufrag.as_bytes()))?;
            configs.server_id_exact(&id).ok()
        });
    });
    group.bench_function("floor: copy 17 bytes", |b| {
        let cid = [7_u8; 17];
        b.iter(|| black_box(cid));
    });
    group.finish();
}

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("stun");
    let routing = Routing::encrypted(0).verified();
    let ufrag = routing.ufrag(&SERVER, 1);
    let password = routing.password(&ufrag);
    let check = stun::check(&format!("{ufrag}:wxyz"), &password, [1; 12]);
    group.bench_function("parse", |b| b.iter(|| Message::parse(black_box(&check)).is_ok()));
    let message = Message::parse(&check).expect("well-formed");
    group.bench_function("fingerprint", |b| b.iter(|| black_box(&message).verify_fingerprint()));
    group.bench_function("integrity", |b| {
        b.iter(|| black_box(&message).verify_integrity(password.as_bytes()));
    });
    let key = carrier::IceKey::new(b"thirty-two bytes make an ICE key");
    group.bench_function("password", |b| b.iter(|| key.password(black_box(ufrag.as_bytes()))));
    group.finish();
}

fn hellos(c: &mut Criterion) {
    let mut group = c.benchmark_group("initial");
    let hello = Hello::named("sfu.example.test").bytes();
    let datagram = Connection::v1(b"original", b"source").hello(&hello);
    let mut scratch = vec![0; 2_000];
    let mut stream = CryptoStream::new();
    group.bench_function("header", |b| b.iter(|| LongHeader::parse(black_box(&datagram))));
    group.bench_function("decrypt and collect 1200 bytes", |b| {
        b.iter(|| {
            stream.clear();
            initial::collect_crypto(black_box(&datagram), &mut scratch, &mut stream)
        });
    });
    group.bench_function("server name", |b| {
        b.iter(|| ClientHello::new(black_box(&hello)).server_name().is_ok());
    });
    group.bench_function("floor: copy 1200 bytes", |b| {
        b.iter(|| scratch[..1_200].copy_from_slice(black_box(&datagram[..1_200])));
    });
    group.finish();
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("tunnel");
    let (client, vip) = (kit::address("198.51.100.1:5000"), kit::address("192.0.2.1:4433"));
    group.bench_function("encode", |b| {
        b.iter(|| tunnel::encode(&FiveTuple::new(black_box(client), black_box(vip))));
    });
    let datagram = tunnel::encode(&FiveTuple::new(client, vip));
    group.bench_function("decode", |b| b.iter(|| tunnel::decode(black_box(&datagram)).is_ok()));
    group.finish();
}

fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("maglev");
    let key = HashKey::new([7; 16]);
    for count in [10, 100, 655] {
        let names: Vec<_> = (0..count).map(|index| format!("sfu-{index}")).collect();
        let members: Vec<_> =
            names.iter().map(|name| Member { name: name.as_bytes(), weight: 100 }).collect();
        let mut walks = vec![Walk::default(); count];
        let mut table = vec![0; maglev::table_len(count)];
        group.bench_function(format!("fill, {count} members"), |b| {
            b.iter(|| maglev::fill(&key, &members, &mut walks, &mut table));
        });
        if count == 10 {
            let cid = [3; 20];
            group
                .bench_function("find", |b| b.iter(|| maglev::find(&key, &table, black_box(&cid))));
        }
    }
    group.finish();
}

criterion_group!(benches, classes, routing_ids, messages, hellos, headers, hashing);
criterion_main!(benches);
