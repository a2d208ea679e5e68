//! Who may be where.

use super::*;

fn policy(text: &str) -> Policy {
    let policy: Policy = toml::from_str(text).expect("valid");
    policy.check().expect("sound");
    policy
}

fn asking(pool: &str, host: &str) -> Wanted {
    Wanted { pool: pool.to_owned(), host: host.to_owned(), ..Wanted::default() }
}

#[test]
fn the_pool_of_a_tenant_is_its_own_and_nobody_elses() {
    let policy = policy(
        r#"
        [tenants]
        acme = "pool-a"
        shared = "default"
        [hosts]
        "b.example.test" = "pool-b"
        "#,
    );
    let refused = |pool: &str| Err(NotYours(pool.to_owned()));
    for (tenant, pool, host, expected) in [
        ("acme", "", "", Ok(Some("pool-a"))),
        ("acme", "pool-a", "", Ok(Some("pool-a"))),
        ("acme", "default", "", refused("default")),
        ("acme", "", "b.example.test", Ok(Some("pool-a"))),
        ("acme", "pool-b", "b.example.test", refused("pool-b")),
        ("other", "", "", Ok(None)),
        ("other", "big", "", Ok(Some("big"))),
        ("other", "pool-a", "", refused("pool-a")),
        ("other", "pool-b", "", refused("pool-b")),
        ("other", "default", "", Ok(Some("default"))),
        ("other", "", "b.example.test", Ok(Some("pool-b"))),
        ("other", "", "B.Example.test.:8443", Ok(Some("pool-b"))),
        ("other", "", "[2001:db8::1]:8443", Ok(None)),
        ("shared", "", "", Ok(Some("default"))),
    ] {
        let wanted = asking(pool, host);
        let given = policy.pool(tenant, &wanted);
        assert_eq!(given, expected, "{tenant} asks {host:?} for {pool:?}");
    }
}

#[test]
fn a_pool_may_have_a_selector_and_an_overload_of_its_own() {
    let policy = policy(
        r#"
        selector = "least-cpu"
        overload_percent = 70
        [pool.big]
        selector = "consistent-hash"
        [pool.small]
        overload_percent = 50
        "#,
    );
    let by = |pool| (policy.selector(pool), policy.overload_percent(pool));
    assert_eq!(by("default"), (Selector::LeastCpu, 70));
    assert_eq!(by("big"), (Selector::ConsistentHash, 70));
    assert_eq!(by("small"), (Selector::LeastCpu, 50));
}

#[test]
fn every_selector_is_called_in_a_file_what_it_is_called_in_metrics() {
    for selector in Selector::ALL {
        let text = format!("selector = {:?}", selector.label());
        assert_eq!(policy(&text).selector, selector);
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    for (text, expected) in [
        ("overload_percent = 0", "placement.overload_percent: must be 1 to 100"),
        ("overload_percent = 101", "placement.overload_percent: must be 1 to 100"),
        ("room_nodes_max = 0", "placement.room_nodes_max: must be 1 to 64"),
        ("[pool.a]\noverload_percent = 0", "placement.pool: a.overload_percent must be 1 to 100"),
        ("[tenants]\nacme = \"\"", "placement.tenants: acme must name a pool"),
        (
            "[tenants]\n\"a/b\" = \"x\"",
            "placement.tenants: \"a/b\" is not a tenant: 1 to 128 characters of A-Z a-z 0-9 . _ -",
        ),
        (
            "[hosts]\n\"A.test:80\" = \"x\"",
            "placement.hosts: \"A.test:80\" must be a host name in lower case, without a port",
        ),
    ] {
        let policy: Policy = toml::from_str(text).expect("well formed");
        let (key, problem) = policy.check().expect_err(text);
        assert_eq!(format!("{key}: {problem}"), expected);
    }
    let unknown = toml::from_str::<Policy>("selector = \"best\"").expect_err("no selector");
    assert!(unknown.to_string().contains("two-choices"), "{unknown}");
}
