//! A process with a store in a file is killed in the middle of its work: whatever it had answered or
//! told a watcher is there, and nobody else could open the file meanwhile.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use control::store::{
    Revision,
    embedded::{Embedded, OpenError},
};
use tokio::task::JoinSet;

use crate::subject::{get, next, put, revision, watch, write};

/// Says to the other process which file.
const PATH: &str = "ONEVIP_TEST_STORE";

/// Lines after which it is killed.
const LINES: usize = 150;

#[tokio::test]
async fn a_store_that_is_killed_has_all_that_was_answered_or_heard() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let mut last = Revision(0);
    for round in 0..4 {
        let mut child = spawn(&path);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut line = || lines.next().map(|line| line.expect("a line"));
        let mut answered = BTreeMap::new();
        let (mut seen, mut told) = (last, 0);
        while let Some(line) = line() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse().map(Revision).expect("a revision");
            match words[0] {
                "answered" => drop(answered.insert(words[1].to_owned(), number(2))),
                "heard" => seen = seen.max(number(1)),
                // What the test's own harness has to say.
                _ => continue,
            }
            told += 1;
            if told == LINES {
                let refused = Embedded::open(&path).await.expect_err("the other has it open");
                assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
                child.kill().expect("it runs");
            }
        }
        child.wait().expect("it has ended");
        assert!(told >= LINES, "the other process ended by itself");

        let store = Embedded::open(&path).await.expect("a file that nobody has open");
        let newest = revision(&store).await;
        assert!(newest >= seen, "round {round}: {seen} was heard, and there is only {newest}");
        for (key, put_in) in answered {
            assert!(put_in > last, "round {round}: revision {put_in} was there before");
            let entry = get(&store, &key).await;
            // A later put of the same key may have happened unanswered.
            assert!(entry.is_some_and(|entry| entry.modified >= put_in), "round {round}: {key}");
        }
        last = newest;
        store.close().await;
    }
}

fn spawn(path: &Path) -> Child {
    let this = env::current_exe().expect("this test's own program");
    Command::new(this)
        .args(["kill::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts")
}

/// The other process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that another test kills"]
async fn writes_until_it_is_killed() {
    let Some(path) = env::var_os(PATH) else { return };
    let store = Embedded::open(path).await.expect("a file that nobody has open");
    let mut watching = watch(&store, "", revision(&store).await).await;
    let mut tasks = JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0u64.. {
                let key = format!("{writer}/{}", number % 50);
                let committed = write(&store, [put(&key, &number.to_string())]).await;
                println!("answered {key} {committed}");
            }
        });
    }
    tasks.spawn(async move {
        loop {
            println!("heard {}", next(&mut watching).await.revision);
        }
    });
    tasks.join_all().await;
}
