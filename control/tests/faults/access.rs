//! TLS, users, and what an LB's role may not read.

use std::{path::Path, process::Command, sync::Arc};

use control::{
    fleet::State,
    follow::{Followed, Topics, follow},
    records::{self, NodeSecrets},
    registry::{Registry, Wish},
    store::{
        AnyStore, Store, StoreError,
        etcd::{Etcd, EtcdOptions, Password},
    },
};
use local_etcd::{Cluster, Shape, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{sync::watch, task};

use crate::world::{TTL, becomes, id, node, routing};

/// Files of an authority, and of a certificate that it has signed.
fn certificates(folder: &Path) -> Tls {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("valid");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&key).expect("signed");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()]).expect("valid");
    // etcd takes who shows no token for the user of this name.
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed");
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("written");
        file
    };
    Tls {
        ca: write("ca.pem", ca.pem()),
        cert: write("cert.pem", leaf.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}

/// Runs `etcdctl` as its administrator.
fn etcdctl(cluster: &Cluster, tls: &Tls, arguments: &[&str]) {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", cluster.endpoint(0)))
        .arg(format!("--cacert={}", tls.ca.display()))
        .arg(format!("--cert={}", tls.cert.display()))
        .arg(format!("--key={}", tls.key.display()))
        .args(arguments)
        .output()
        .expect("this test runs etcdctl, of the Debian package etcd-client");
    assert!(output.status.success(), "etcdctl {arguments:?}: {output:?}");
}

/// The users that the operating page tells operators to make.
fn make_users(cluster: &Cluster, tls: &Tls) {
    let run = |line: &str| etcdctl(cluster, tls, &line.split(' ').collect::<Vec<_>>());
    let fleet = "/onevip/default/";
    run("user add root:secret-of-root");
    run("user grant-role root root");
    run("role add onevip-lb");
    run(&format!("role grant-permission onevip-lb read {fleet}nodes {fleet}sessions0"));
    run(&format!("role grant-permission onevip-lb readwrite {fleet}lbs/ --prefix=true"));
    run(&format!("role grant-permission onevip-lb readwrite {fleet}balancers/ --prefix=true"));
    run("user add lb:secret-of-lb");
    run("user grant-role lb onevip-lb");
    run("role add onevip");
    run(&format!("role grant-permission onevip readwrite {fleet} --prefix=true"));
    run("user add control:secret-of-control");
    run("user grant-role control onevip");
    run("auth enable");
}

fn open(cluster: &Cluster, tls: &Tls, user: &str, password: &str) -> Arc<AnyStore> {
    let mut options = EtcdOptions::new(cluster.endpoints(), "default").expect("a name");
    options.ca = Some(tls.ca.clone());
    options.identity = Some((tls.cert.clone(), tls.key.clone()));
    options.user = Some((user.to_owned(), Password(password.to_owned())));
    Arc::new(Etcd::new(&options).expect("members").into())
}

struct Secured {
    _folder: TempDir,
    tls: Tls,
    cluster: Cluster,
}

async fn secured() -> Secured {
    let made = task::spawn_blocking(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = certificates(folder.path());
        let shape = Shape { tls: Some(tls.clone()), ..Shape::default() };
        let cluster = Cluster::start(&shape).expect("an etcd");
        make_users(&cluster, &tls);
        Secured { _folder: folder, tls, cluster }
    });
    made.await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_lb_follows_and_reports_by_tls_and_its_own_user_and_never_reads_what_nodes_share() {
    let Secured { tls, cluster, .. } = &secured().await;
    let control = open(cluster, tls, "control", "secret-of-control");
    let secrets = NodeSecrets { reset: "00".repeat(32), token: "11".repeat(32) };
    let put = |key: &str, record: serde_json::Value| {
        let (control, key) = (control.clone(), key.to_owned());
        async move { crate::world::put_text(&*control, &key, &record.to_string()).await }
    };
    put(records::ROUTING, serde_json::json!(routing())).await;
    put(records::NODE_SECRETS, serde_json::json!(secrets)).await;
    let registry = Registry::new(control.clone());
    registry.register(&id("sfu-1"), &node(1), &Wish::Any, TTL * 10).await.expect("let in");

    let lb = open(cluster, tls, "lb", "secret-of-lb");
    let (sender, mut followed) = watch::channel(Followed::default());
    tokio::spawn(follow(lb.clone(), Topics::Lb, sender));
    becomes(&mut followed, &[("sfu-1", State::Serving)]).await;
    registry.want(&id("sfu-1"), State::Draining).await.expect("wanted");
    becomes(&mut followed, &[("sfu-1", State::Draining)]).await;

    for secret in [records::NODE_SECRETS, records::JOIN_KEY] {
        let refused = lb.get(secret).await.expect_err("not for LBs");
        assert!(refused.to_string().contains("permission denied"), "{refused}");
    }
    let everything = lb.watch("", control::store::Revision(1)).await;
    assert!(matches!(everything, Err(StoreError::Unavailable(_))), "{everything:?}");
    let lease = lb.grant(TTL).await.expect("a lease");
    let report = records::put(records::lb(&id("lb-1")), &records::Lb::default(), Some(lease));
    let txn = control::store::Txn { when: Vec::new(), then: vec![report] };
    lb.commit(txn).await.expect("its own record");
    let routing = records::put(records::ROUTING.to_owned(), &routing(), None);
    let txn = control::store::Txn { when: Vec::new(), then: vec![routing] };
    assert!(lb.commit(txn).await.is_err(), "an LB writes no routing");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_password_or_no_certificate_is_refused_and_told_why() {
    let Secured { tls, cluster, .. } = &secured().await;
    let wrong = open(cluster, tls, "lb", "a-guess").get("routing").await.expect_err("not his");
    assert!(wrong.to_string().contains("authentication failed"), "{wrong}");
    assert!(!wrong.to_string().contains("a-guess"), "{wrong}");
    let mut bare = EtcdOptions::new(cluster.endpoints(), "default").expect("a name");
    bare.ca = Some(tls.ca.clone());
    let bare = Etcd::new(&bare).expect("members").get("routing").await;
    assert!(matches!(bare, Err(StoreError::Unavailable(_))), "{bare:?}");
}
