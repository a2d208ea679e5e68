//! What a store must do, whichever it is. `suite` holds the tests; `subject` is what a kind of store
//! brings to be tested; `embedded` brings two: in memory, and in a file; `etcd` brings a cluster. All run the
//! very same functions.

mod embedded;
mod etcd;
mod files;
mod kill;
mod subject;
mod suite;
