//! A fleet file that is followed, look by look.

use std::{fs, path::PathBuf};

use control::fleet_file::FleetFile;

/// A fleet of so many nodes, none of which serves QUIC, so that it needs no keys.
fn fleet(nodes: usize) -> String {
    let node = |number| {
        format!(
            "[[node]]\nid = \"sfu-{number}\"\naddress = \"127.0.0.1:{}\"\nserves = [\"ice\"]\n",
            7_000 + number
        )
    };
    (0..nodes).map(node).collect()
}

struct World {
    folder: tempfile::TempDir,
    followed: FleetFile,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet.toml");
        fs::write(&path, fleet(1)).expect("written");
        let (followed, ..) = FleetFile::open(&path).expect("valid");
        Self { folder, followed }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fleet.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("written");
    }

    /// One look: nothing new, or how many nodes there are now, or a sentence.
    fn look(&mut self) -> Option<Result<usize, String>> {
        let read = self.followed.poll()?;
        Some(read.map(|(fleet, _)| fleet.nodes.len()).map_err(|error| error.to_string()))
    }
}

#[test]
fn a_change_is_read_when_it_has_stood_still_for_one_look() {
    let mut world = World::new();
    assert_eq!(world.look(), None);
    world.write(&fleet(2));
    assert_eq!(world.look(), None);
    assert_eq!(world.look(), Some(Ok(2)));
    assert_eq!(world.look(), None);
}

#[test]
fn a_file_that_never_stands_still_is_read_all_the_same() {
    let mut world = World::new();
    let read = (2..20).find_map(|nodes| {
        world.write(&fleet(nodes));
        world.look()
    });
    let nodes = read.expect("it was read in spite of its unrest").expect("valid");
    assert!(nodes <= 7, "after {nodes} changes");
}

#[test]
fn a_file_that_is_renamed_into_place_or_behind_a_link_that_is_switched_is_read() {
    let mut world = World::new();
    let other = world.folder.path().join("other");
    fs::write(&other, fleet(2)).expect("written");
    fs::rename(&other, world.path()).expect("renamed");
    assert_eq!(world.look(), None);
    assert_eq!(world.look(), Some(Ok(2)));
    for nodes in [3, 4] {
        let target = world.folder.path().join(format!("target-{nodes}"));
        fs::write(&target, fleet(nodes)).expect("written");
        std::os::unix::fs::symlink(target, &other).expect("linked");
        fs::rename(&other, world.path()).expect("renamed");
        assert_eq!(world.look(), None);
        assert_eq!(world.look(), Some(Ok(nodes)));
    }
}

#[test]
fn a_file_of_the_same_length_and_time_of_modification_is_read_too() {
    let mut world = World::new();
    let before = fs::metadata(world.path()).expect("there").modified().expect("known");
    world.write(&fleet(1).replace("sfu-0", "sfu-9"));
    let file = fs::File::options().write(true).open(world.path()).expect("opened");
    file.set_modified(before).expect("set");
    assert_eq!(world.look(), None);
    assert_eq!(world.look(), Some(Ok(1)));
}

#[test]
fn what_cannot_be_read_is_told_once_and_its_correction_is_read() {
    let mut world = World::new();
    world.write("[[node");
    assert_eq!(world.look(), None);
    let problem = world.look().expect("something new").expect_err("wrong");
    assert!(problem.contains("fleet.toml:1: "), "{problem}");
    assert_eq!(world.look(), None);
    fs::remove_file(world.path()).expect("removed");
    assert_eq!(world.look(), None);
    let problem = world.look().expect("something new").expect_err("gone");
    assert!(problem.ends_with("there is no such file"), "{problem}");
    world.write(&fleet(3));
    assert_eq!(world.look(), None);
    assert_eq!(world.look(), Some(Ok(3)));
}
