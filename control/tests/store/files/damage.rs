//! Files that are not, or not any more, what a store left.

use std::{fs, path::Path};

use control::store::embedded::{Embedded, OpenError};
use redb::{Database, TableDefinition};

use crate::subject::{all, delete, put, revision, write};

/// Says which of the database's two last commits is the newer one, in a bit that nothing protects.
const NEWER_SLOT: usize = 9;

/// Why a file is not taken: one sentence that begins with its name, or says it.
async fn refused(path: &Path) -> OpenError {
    let error = Embedded::open(path).await.expect_err("a file that is no store's");
    let sentence = error.to_string();
    assert!(sentence.contains(&path.display().to_string()), "which file? {sentence}");
    assert!(!sentence.contains('\n'), "more than a sentence: {sentence}");
    error
}

/// A store's file, as it is while it is open, and as it is closed.
async fn file(path: &Path) -> [Vec<u8>; 2] {
    let store = Embedded::open(path).await.expect("a new file");
    for number in 0..20 {
        write(&store, [put(&format!("key/{number}"), &format!("value {number}").repeat(9))]).await;
    }
    write(&store, [delete("key/7"), put("key/8", "again")]).await;
    let open = fs::read(path).expect("its bytes");
    store.close().await;
    [open, fs::read(path).expect("its bytes")]
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fleet.toml");
    for bytes in [&b"x"[..], b"[fleet]\nrevision = 1\n", &[0; 8192], &[0xa5; 100_000]] {
        fs::write(&path, bytes).expect("a file");
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Foreign(..) | OpenError::Damaged(..)), "{error:?}");
        assert_eq!(fs::read(&path).expect("its bytes"), bytes);
    }
}

#[tokio::test]
async fn a_database_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("other.redb");
    let database = Database::create(&path).expect("a database");
    let txn = database.begin_write().expect("a transaction");
    txn.open_table(TableDefinition::<&str, &str>::new("meta")).expect("a table");
    txn.commit().expect("a commit");
    drop(database);
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Foreign(..)), "{error:?}");
}

#[tokio::test]
async fn a_store_of_another_format_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    file(&path).await;
    let database = Database::create(&path).expect("a database");
    let txn = database.begin_write().expect("a transaction");
    let meta = TableDefinition::<&str, u64>::new("meta");
    txn.open_table(meta).expect("its table").insert("format", 2).expect("a row");
    txn.commit().expect("a commit");
    drop(database);
    let error = refused(&path).await;
    assert!(error.to_string().ends_with("it has format 2, this program reads 1"), "{error}");
}

#[tokio::test]
async fn a_path_that_cannot_be_a_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for path in [directory.path().to_owned(), directory.path().join("none/store")] {
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Io(..)), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let [_, whole] = file(&path).await;
    for eighth in 1..8 {
        fs::write(&path, &whole[..whole.len() * eighth / 8]).expect("a part of it");
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Foreign(..) | OpenError::Damaged(..)), "{error:?}");
    }
}

/// Wherever a file rots, the store is refused or has lost nothing: it never goes back to what it was
/// before, for then revisions that others have seen would come again. But for one byte.
#[tokio::test]
async fn a_rotten_byte_anywhere_is_refused_or_harmless() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let files = file(&path).await;
    let store = Embedded::open(&path).await.expect("it is whole");
    let (entries, last) = (all(&store, "").await, revision(&store).await);
    store.close().await;

    for (what, whole) in ["left open", "closed"].into_iter().zip(files) {
        // Every byte that says where things are, and some of all others that are not empty.
        let written = (0..whole.len())
            .filter(|at| *at < 320 || whole[*at] != 0 && at % 211 == 0)
            .filter(|at| *at != NEWER_SLOT);
        let (mut refused, mut harmless) = (0, 0);
        for at in written {
            let mut rotten = whole.clone();
            rotten[at] ^= 0x41;
            fs::write(&path, &rotten).expect("a rotten file");
            match Embedded::open(&path).await {
                Err(error) => {
                    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                    refused += 1;
                }
                Ok(store) => {
                    assert_eq!(revision(&store).await, last, "{what}, byte {at}");
                    assert_eq!(all(&store, "").await, entries, "{what}, byte {at}");
                    store.close().await;
                    harmless += 1;
                }
            }
        }
        assert!(refused > 20, "{what}: {refused} refused, {harmless} harmless");
    }
}
