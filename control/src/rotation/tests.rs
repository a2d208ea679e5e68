//! The steps of a rotation, whoever comes, lags, crashes and goes meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::records::Lb;

const QUIET: Duration = Duration::from_secs(60);

/// Clients speak at least this often.
const SPEAKS: u64 = 25;

fn view(routing: &[serde_json::Value], at: u64) -> View {
    let record = Routing { hash_key: None, routing: routing.to_vec() };
    View::new("routing", &record, Revision(at)).expect("valid")
}

fn lb(id: &str, revision: u64, configs: &[(u8, u64)]) -> LbSight {
    let configs = configs.iter().copied().collect();
    LbSight { id: id.to_owned(), said: Some(Lb { revision, configs, ..Lb::default() }) }
}

fn node(id: &str, issues: Option<u8>, sessions: &[(u8, u64)]) -> NodeSight {
    NodeSight { id: id.to_owned(), issues, sessions: sessions.iter().copied().collect() }
}

fn step(view: &View) -> Step {
    Rotation::default().step(Instant::now(), QUIET, view)
}

fn sentences(step: &Step) -> Vec<String> {
    match step {
        Step::Wait(waiting) => waiting.iter().map(ToString::to_string).collect(),
        Step::Nothing | Step::Write(_) => panic!("{step:?} waits for nothing"),
    }
}

/// Number, phase and since of each, as they stand in a record.
fn phases(routing: &Routing) -> Vec<(u64, String, Option<u64>)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let one = |config: &serde_json::Value| {
        (
            config["config"].as_u64().expect("a number"),
            text(&config["phase"]),
            config["since"].as_u64(),
        )
    };
    routing.routing.iter().map(one).collect()
}

fn written(step: Step) -> Vec<(u64, String, Option<u64>)> {
    match step {
        Step::Write(routing) => phases(&routing),
        Step::Nothing | Step::Wait(_) => panic!("{step:?} writes nothing"),
    }
}

#[test]
fn a_new_configuration_is_like_the_one_in_use_with_keys_of_its_own() {
    let old =
        json!({ "config": 5, "server_id_len": 3, "nonce_len": 13, "key": "aa", "ice_key": "bb" });
    let (routing, number) =
        view(std::slice::from_ref(&old), 7).rotate("cc".into(), "dd".into()).expect("begins");
    let new = json!({
        "config": 6, "server_id_len": 3, "nonce_len": 13, "key": "cc", "ice_key": "dd",
        "phase": "published",
    });
    assert_eq!((number, &routing.routing), (6, &vec![old, new]));
    // Without a key for passwords there is none after it either; numbers begin anew behind the last.
    let plain = view(&[json!({ "config": 6 }), json!({ "config": 0 })], 7);
    let (routing, number) = plain.rotate("cc".into(), "dd".into()).expect("begins");
    assert_eq!((number, routing.routing[2].get("ice_key")), (1, None));
}

#[test]
fn one_rotation_at_a_time_and_none_without_a_number_or_a_model() {
    let rotate = |view: &View| view.rotate(String::new(), String::new()).map(|(_, number)| number);
    assert_eq!(rotate(&view(&[], 3)), Err(Refused::NoRouting));
    let published = [json!({ "config": 0 }), json!({ "config": 1, "phase": "published" })];
    assert_eq!(rotate(&view(&published, 3)), Err(Refused::UnderWay(1)));
    let issuing = [json!({ "config": 0 }), json!({ "config": 1, "phase": "issuing" })];
    assert_eq!(rotate(&view(&issuing, 3)), Err(Refused::UnderWay(1)));
    // What retires keeps its number, and nobody waiting.
    let mut retiring = vec![
        json!({ "config": 0, "phase": "retiring" }),
        json!({ "config": 1, "phase": "issuing" }),
    ];
    assert_eq!(rotate(&view(&retiring, 3)), Ok(2));
    retiring.extend((2..7).map(|config| json!({ "config": config, "phase": "retiring" })));
    assert_eq!(rotate(&view(&retiring, 3)), Err(Refused::NoNumber));
}

#[test]
fn only_what_is_published_can_be_taken_back() {
    let published = [json!({ "config": 0 }), json!({ "config": 1, "phase": "published" })];
    let (routing, number) = view(&published, 3).abort().expect("taken back");
    assert_eq!((number, phases(&routing)), (1, vec![(0, "-".to_owned(), None)]));
    let issuing = [json!({ "config": 0 }), json!({ "config": 1, "phase": "issuing" })];
    assert_eq!(view(&issuing, 3).abort().map(drop), Err(Refused::NothingPublished));
}

#[test]
fn what_is_published_is_issued_when_every_lb_that_lives_has_applied_it_and_who_has_not_is_named() {
    let mut seen = view(&[json!({ "config": 0 }), json!({ "config": 1, "phase": "published" })], 9);
    seen.lbs =
        vec![lb("lb-1", 9, &[]), lb("lb-2", 8, &[]), LbSight { id: "lb-3".to_owned(), said: None }];
    let says = ["LB lb-2 has applied revision 8, not yet 9"];
    assert_eq!(sentences(&step(&seen)), says, "one without a lease is not waited for");
    seen.lbs[1] = lb("lb-2", 12, &[]);
    let expected = [(0, "-".to_owned(), None), (1, "issuing".to_owned(), None)];
    assert_eq!(written(step(&seen)), expected);
    // All of them may be cut off from here, and forward all the same.
    seen.lbs.retain(|lb| lb.id == "lb-3");
    assert_eq!(sentences(&step(&seen)), ["no LB holds its lease, so none can be asked"]);
}

#[test]
fn the_former_retires_when_every_node_says_that_it_issues_by_the_new_one() {
    let mut seen = view(&[json!({ "config": 0 }), json!({ "config": 1, "phase": "issuing" })], 12);
    seen.nodes = vec![node("a", Some(1), &[]), node("b", Some(0), &[]), node("c", None, &[])];
    let says = [
        "node b issues by configuration 0, not yet by 1",
        "node c does not say by which configuration it issues",
    ];
    assert_eq!(sentences(&step(&seen)), says);
    seen.nodes = vec![node("a", Some(1), &[(0, 9)]), node("b", Some(1), &[])];
    let expected = [(0, "retiring".to_owned(), None), (1, "issuing".to_owned(), Some(12))];
    assert_eq!(written(step(&seen)), expected, "with the revision in which the new one began");
}

#[test]
fn configurations_that_no_rotation_made_are_left_alone_until_there_is_one() {
    let mut seen = view(&[json!({ "config": 0 }), json!({ "config": 1 })], 3);
    seen.nodes = vec![node("a", Some(0), &[])];
    assert_eq!(step(&seen), Step::Nothing);
    assert!(!seen.is_rotating());
}

#[test]
fn what_retires_goes_when_nothing_has_used_it_for_the_quiet_time_and_who_uses_it_is_named() {
    let routing = [
        json!({ "config": 0, "phase": "retiring", "since": 20 }),
        json!({ "config": 1, "phase": "issuing", "since": 15 }),
    ];
    let seen = |lbs: Vec<LbSight>, nodes: Vec<NodeSight>| View { lbs, nodes, ..view(&routing, 20) };
    let calm = || lb("lb-1", 20, &[(0, 60), (1, 0)]);
    for (lbs, nodes, says) in [
        (
            vec![calm(), lb("lb-2", 20, &[(0, 59)])],
            vec![],
            "LB lb-2 has met configuration 0 59 s ago",
        ),
        (vec![calm(), lb("lb-2", 20, &[(1, 0)])], vec![], "LB lb-2 does not say when"),
        (vec![calm()], vec![node("a", Some(1), &[(0, 3)])], "node a has 3 sessions named by"),
        (vec![calm()], vec![node("a", Some(0), &[])], "node a issues by configuration 0"),
        (vec![LbSight { id: "lb-1".to_owned(), said: None }], vec![], "no LB holds its lease"),
        (vec![calm()], vec![], "configuration 0 retires for 60 s at least"),
    ] {
        let said = sentences(&step(&seen(lbs, nodes)));
        assert!(said.len() == 1 && said[0].starts_with(says), "{said:?} is not {says:?}");
    }
    let (mut rotation, now) = (Rotation::default(), Instant::now());
    let nodes = vec![node("a", Some(1), &[(1, 4)])];
    let seen = seen(vec![calm()], nodes);
    assert!(matches!(rotation.step(now, QUIET, &seen), Step::Wait(_)));
    let just_before = now + QUIET - Duration::from_millis(1);
    assert!(matches!(rotation.step(just_before, QUIET, &seen), Step::Wait(_)));
    let gone = written(rotation.step(now + QUIET, QUIET, &seen));
    assert_eq!(gone, [(1, "issuing".to_owned(), Some(15))]);
}

/// What may happen to a fleet whose keys are rotated.
#[derive(Clone, Debug)]
enum Op {
    Rotate,
    Abort,
    /// A control looks.
    Look(usize),
    /// It does what it thought of when it looked.
    Write(usize),
    /// It is gone, and another takes its place.
    Crash(usize),
    LbApplies(usize),
    LbDies(usize),
    /// It comes back knowing nothing, or all that it knew.
    LbReturns(usize, bool),
    NodeApplies(usize),
    NodeDies(usize),
    NodeReturns(usize),
    Join(usize),
    Leave(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..3_usize;
    let control = || 0..2_usize;
    prop_oneof![
        3 => Just(Op::Rotate),
        1 => Just(Op::Abort),
        8 => control().prop_map(Op::Look),
        8 => control().prop_map(Op::Write),
        2 => control().prop_map(Op::Crash),
        8 => who().prop_map(Op::LbApplies),
        1 => who().prop_map(Op::LbDies),
        2 => (who(), any::<bool>()).prop_map(|(lb, fresh)| Op::LbReturns(lb, fresh)),
        8 => who().prop_map(Op::NodeApplies),
        1 => who().prop_map(Op::NodeDies),
        2 => who().prop_map(Op::NodeReturns),
        4 => who().prop_map(Op::Join),
        4 => who().prop_map(Op::Leave),
        6 => (1..=SPEAKS).prop_map(Op::Wait),
    ]
}

#[derive(Clone, Default)]
struct ModelLb {
    alive: bool,
    revision: u64,
    idle: BTreeMap<u8, u64>,
}

#[derive(Clone, Default)]
struct ModelNode {
    alive: bool,
    issues: u8,
    sessions: BTreeMap<u8, u64>,
}

#[derive(Default)]
struct Control {
    rotation: Rotation,
    thought: Option<(View, Step)>,
}

struct Fleet {
    routing: Routing,
    /// When it was put, and what the store's revision is.
    at: u64,
    revision: u64,
    lbs: Vec<ModelLb>,
    nodes: Vec<ModelNode>,
    controls: Vec<Control>,
    now: Instant,
}

impl Fleet {
    fn new() -> Self {
        let routing = Routing { hash_key: None, routing: vec![json!({ "config": 0 })] };
        let mut fleet = Self {
            routing,
            at: 1,
            revision: 1,
            lbs: vec![ModelLb::default(); 3],
            nodes: vec![ModelNode { alive: true, ..ModelNode::default() }; 3],
            controls: vec![Control::default(), Control::default()],
            now: Instant::now(),
        };
        (0..3).for_each(|lb| fleet.lb_applies(lb));
        fleet.lbs.iter_mut().for_each(|lb| lb.alive = true);
        fleet
    }

    fn configurations(&self) -> View {
        View::new("routing", &self.routing, Revision(self.at)).expect("valid")
    }

    fn view(&self) -> View {
        let lbs = (0..).zip(&self.lbs).map(|(number, lb)| LbSight {
            id: format!("lb-{number}"),
            said: lb.alive.then(|| Lb {
                revision: lb.revision,
                configs: lb.idle.clone(),
                ..Lb::default()
            }),
        });
        let nodes = (0..).zip(&self.nodes).filter(|(_, node)| node.alive);
        let nodes = nodes.map(|(number, node): (u8, _)| NodeSight {
            id: format!("node-{number}"),
            issues: Some(node.issues),
            sessions: node.sessions.clone(),
        });
        View { lbs: lbs.collect(), nodes: nodes.collect(), ..self.configurations() }
    }

    fn put(&mut self, routing: Routing) {
        self.revision += 1;
        (self.routing, self.at) = (routing, self.revision);
    }

    fn lb_applies(&mut self, lb: usize) {
        let known = self.configurations().routing;
        let lb = &mut self.lbs[lb];
        lb.revision = self.revision;
        let former = std::mem::take(&mut lb.idle);
        for Configuration { config, .. } in known {
            lb.idle.insert(config, former.get(&config).copied().unwrap_or(0));
        }
    }

    fn node_applies(&mut self, node: usize) {
        self.nodes[node].issues = self.configurations().newest().expect("there is one").config;
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let used: Vec<_> = self.nodes.iter().flat_map(|node| &node.sessions).collect();
        let used: Vec<_> = used.iter().filter(|(_, count)| **count > 0).map(|(c, _)| **c).collect();
        for lb in self.lbs.iter_mut().filter(|lb| lb.alive) {
            for (config, idle) in &mut lb.idle {
                *idle = if used.contains(config) { 0 } else { *idle + seconds };
            }
        }
    }

    fn happens(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Rotate => {
                if let Ok((routing, _)) = self.configurations().rotate("aa".into(), "bb".into()) {
                    self.put(routing);
                }
            }
            Op::Abort => {
                if let Ok((routing, _)) = self.configurations().abort() {
                    self.put(routing);
                }
            }
            Op::Look(control) => {
                let view = self.view();
                let step = self.controls[control].rotation.step(self.now, QUIET, &view);
                self.controls[control].thought = Some((view, step));
            }
            Op::Write(control) => {
                if let Some((view, Step::Write(routing))) = self.controls[control].thought.take()
                    && view.at.0 == self.at
                {
                    self.is_safe(&view, &routing)?;
                    self.put(routing);
                }
            }
            Op::Crash(control) => self.controls[control] = Control::default(),
            Op::LbApplies(lb) => self.lb_applies(lb),
            Op::LbDies(lb) => self.lbs[lb].alive = false,
            Op::LbReturns(lb, fresh) => {
                if fresh && !self.lbs[lb].alive {
                    self.lbs[lb] = ModelLb::default();
                }
                self.lbs[lb].alive = true;
            }
            Op::NodeApplies(node) => self.node_applies(node),
            Op::NodeDies(node) => self.nodes[node].alive = false,
            Op::NodeReturns(node) => {
                if !self.nodes[node].alive {
                    self.node_applies(node);
                    self.nodes[node].alive = true;
                }
            }
            Op::Join(node) => {
                let node = &mut self.nodes[node];
                if node.alive {
                    *node.sessions.entry(node.issues).or_default() += 1;
                }
            }
            Op::Leave(node) => {
                if let Some(mut session) = self.nodes[node].sessions.first_entry() {
                    *session.get_mut() -= 1;
                    if *session.get() == 0 {
                        session.remove();
                    }
                }
            }
            Op::Wait(seconds) => self.wait(seconds),
        }
        Ok(())
    }

    /// That what is about to be written harms nobody who was seen.
    fn is_safe(&self, seen: &View, routing: &Routing) -> Result<(), TestCaseError> {
        let next = View::new("routing", routing, Revision(self.at + 1)).expect("valid");
        let was = self.configurations();
        let phase = |of: &View, number| {
            let mut routing = of.routing.iter();
            routing.find(|config| config.config == number).map(Configuration::phase)
        };
        let begins = |config: &&Configuration| phase(&was, config.config) != Some(config.phase());
        // One that was cut off when that began may come back without it: nobody could wait for it.
        for config in next.in_phase(Phase::Issuing).filter(begins) {
            for lb in seen.lbs.iter().filter_map(|lb| lb.said.as_ref()) {
                let knows = lb.configs.contains_key(&config.config);
                prop_assert!(knows, "{} is issued, and an LB does not know it", config.config);
            }
        }
        let newest = next.newest().expect("something is always issued").config;
        for config in next.in_phase(Phase::Retiring).filter(begins) {
            let issued = seen.nodes.iter().any(|node| node.issues == Some(config.config));
            prop_assert!(!issued, "{} retires for {newest}, and is issued", config.config);
        }
        for node in &self.nodes {
            for config in node.sessions.keys() {
                let kept = next.routing.iter().any(|there| there.config == *config);
                prop_assert!(kept, "{config} is removed, and a session is named by it");
            }
        }
        Ok(())
    }

    /// All come back and do their part, and all sessions end: then every rotation comes to its end.
    fn calms_down(&mut self) -> Result<(), TestCaseError> {
        for who in 0..3 {
            self.happens(&Op::LbReturns(who, false))?;
            self.happens(&Op::NodeReturns(who))?;
            self.nodes[who].sessions.clear();
        }
        for _ in 0..60 {
            for who in 0..3 {
                self.lb_applies(who);
                self.node_applies(who);
            }
            self.happens(&Op::Look(0))?;
            self.happens(&Op::Write(0))?;
            self.wait(SPEAKS);
        }
        let left = self.configurations();
        prop_assert!(!left.is_rotating() && left.routing.len() == 1, "{:?}", left.routing);
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_is_issued_that_an_lb_cannot_read_or_removed_that_is_used_and_every_rotation_ends(
        ops in prop::collection::vec(op(), 50..400),
    ) {
        let mut fleet = Fleet::new();
        for (at, op) in ops.iter().enumerate() {
            fleet.happens(op).map_err(|error| match error {
                TestCaseError::Fail(why) => TestCaseError::fail(format!("at {at}, {op:?}: {why}")),
                other => other,
            })?;
        }
        fleet.calms_down()?;
    }
}
