//! `docs/walk-through.md`, done as it says: its files, its commands and what they print, in separate
//! processes, while clients publish and play.

mod people;
mod shell;
mod text;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use people::People;
use serde_json::Value;
use shell::{Block, Shell};
use text::{Step, is_like, steps};

const TEXT: &str = include_str!("../../docs/walk-through.md");

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_shows_what_it_says() {
    let mut walk = Walk::new();
    for step in steps(TEXT) {
        walk.take(step).await;
    }
    assert!(walk.behind.is_none(), "what goes on in the background has an end");
    eprintln!("the walk took {:.1?}", walk.begun.elapsed());
}

/// Somebody who walks through.
struct Walk {
    shell: Shell,
    begun: Instant,
    /// By room.
    people: BTreeMap<String, People>,
    /// How many have come in so far.
    entered: u32,
    /// What was told of the next block.
    to_the_back: bool,
    at_most: Option<Duration>,
    /// The block in the background, and what the text says it prints.
    behind: Option<(Block, String)>,
}

impl Walk {
    fn new() -> Self {
        Self {
            shell: Shell::new(),
            begun: Instant::now(),
            people: BTreeMap::new(),
            entered: 0,
            to_the_back: false,
            at_most: None,
            behind: None,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::File { name, contents } => self.shell.write(&name, &contents),
            Step::Run { script, prints } => self.run(&script, prints),
            Step::Note(note) => {
                eprintln!("{:5.1?} {note}", self.begun.elapsed());
                self.heed(&note).await;
            }
        }
    }

    fn run(&mut self, script: &str, prints: Option<String>) {
        let block = self.shell.begin(script);
        if std::mem::take(&mut self.to_the_back) {
            self.behind = Some((block, prints.unwrap_or_default()));
            return;
        }
        let (printed, took) = self.shell.end(block);
        eprintln!("{:5.1?} took {took:.1?}: {}", self.begun.elapsed(), script.trim_end());
        if let Some(prints) = prints {
            self.is_printed(script, &printed, &prints);
        }
        if let Some(most) = self.at_most.take() {
            assert!(took <= most, "{took:?} is more than {most:?}:\n{script}");
        }
    }

    #[track_caller]
    fn is_printed(&self, script: &str, printed: &str, said: &str) {
        assert!(
            is_like(printed, said),
            "{script}prints\n{printed}and not\n{said}\n{}",
            self.shell.logs()
        );
    }

    async fn heed(&mut self, note: &str) {
        let words: Vec<_> = note.split_whitespace().map(|word| word.trim_matches(',')).collect();
        match words.as_slice() {
            ["one", "publishes", "in", room, "one", "plays"] => self.enter(room).await,
            ["media", "goes", "on", "in", room] => self.in_room(room).media_goes_on().await,
            ["the", "next", "block", "goes", "on", "in", "the", "background"] => {
                self.to_the_back = true;
            }
            ["the", "next", "block", "takes", "at", "most", seconds, "seconds"] => {
                self.at_most = Some(Duration::from_secs(seconds.parse().expect("a number")));
            }
            ["it", "says", "how", "many", "are", "left"] => self.it_says("sessions left").await,
            [rooms @ .., "is" | "are", "not", "on", node] => {
                for room in rooms.iter().filter(|word| **word != "and") {
                    assert_ne!(self.home(room), *node, "{room}");
                }
            }
            ["both", "leave", room, "one", "after", "the", "other"] => self.leave(room).await,
            ["those", "in", room, "are", "told"] => {
                let port = self.shell.port(4433);
                let vip = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
                self.in_room(room).are_told(vip).await;
            }
            ["from", "here", "on", "nothing", "in", room, "may", "be", "lost"] => {
                self.in_room(room).be_careful().await;
            }
            ["nothing", "in", room, "was", "lost"] => {
                let arrived = self.in_room(room).lost_nothing().await;
                eprintln!("{arrived} datagrams of media have left since, and all have arrived");
            }
            _ => panic!("nobody knows what to do when {note:?}"),
        }
    }

    async fn enter(&mut self, room: &str) {
        let control = SocketAddr::from(([127, 0, 0, 1], self.shell.port(8000)));
        self.entered += 2;
        let people = People::join(control, room, self.entered).await;
        assert!(self.people.insert(room.to_owned(), people).is_none(), "{room} has people");
    }

    #[track_caller]
    fn in_room(&mut self, room: &str) -> &mut People {
        self.people.get_mut(room).unwrap_or_else(|| panic!("nobody is in {room}"))
    }

    /// The last of them ends what goes on in the background.
    async fn leave(&mut self, room: &str) {
        let people = self.people.remove(room).expect("somebody is there");
        people.media_goes_on().await;
        people.publisher_leaves().await;
        self.it_says("1 session left").await;
        people.player_leaves().await;
        let (block, said) = self.behind.take().expect("there is one");
        let (printed, _) = self.shell.end(block);
        self.is_printed("what went on in the background ", &printed, &said);
    }

    /// Waits until the block in the background prints something.
    async fn it_says(&self, what: &str) {
        let (block, _) = self.behind.as_ref().expect("a block goes on in the background");
        let begun = Instant::now();
        while !block.printed().contains(what) {
            assert!(begun.elapsed() < PATIENCE, "never: {what:?}, but\n{}", block.printed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn home(&mut self, room: &str) -> String {
        let shown = self.shell.run(&format!("onevip room show {room} --output json"));
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["home"].as_str().expect("a name").to_owned()
    }
}
