//! What processes spend, by the kernel's own clocks of them: nanoseconds, where `/proc/stat` has samples of
//! four milliseconds.
//!
//! *Whole system* is the sum of everything that takes part: this process, which is clients and nodes; the
//! forwarder's; and the kernel's threads for deferred packets (`ksoftirqd`). What the kernel does for a packet
//! happens inside whoever sent it, veth having no interrupts, and is on that one's clock. Others on the machine
//! are not in the sum, as they would be in `/proc/stat`. Clients and nodes are the same for every forwarder, so
//! the difference between two rows is their forwarders', what they cost or spare both ends included.

use std::{process::Child, time::Duration};

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, gettid},
};
use procfs::process::{Process, all_processes};

use crate::place::{Place, Seat};

/// Time on the CPU of processes that run. 0 for those that have ended.
pub(crate) fn cpu(pids: &[i32]) -> Duration {
    pids.iter().map(|&pid| cpu_of(pid).unwrap_or_default()).sum()
}

fn cpu_of(pid: i32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    Some(clock_gettime(clock).ok()?.into())
}

/// Time for which threads of processes could have run, and others had their core.
pub(crate) fn kept_waiting(pids: &[i32]) -> Duration {
    let tasks = pids.iter().filter_map(|&pid| Process::new(pid).ok()?.tasks().ok()).flatten();
    let delays = tasks.filter_map(|task| Some(task.ok()?.schedstat().ok()?.run_delay));
    Duration::from_nanos(delays.sum())
}

/// Time on the CPU of all that takes part, besides the forwarder.
pub(crate) fn rest(deferred: &[i32]) -> Duration {
    cpu(deferred) + cpu_of(0).unwrap_or_default()
}

/// The kernel's threads for deferred packets.
pub(crate) fn deferred() -> Vec<i32> {
    processes(|process| process.comm.starts_with("ksoftirqd/"))
}

/// Children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    processes(|process| process.ppid == parent)
}

fn processes(wanted: impl Fn(&procfs::process::Stat) -> bool) -> Vec<i32> {
    let all = all_processes().into_iter().flatten().flatten();
    all.filter_map(|process| process.stat().ok())
        .filter(|stat| wanted(stat))
        .map(|stat| stat.pid)
        .collect()
}

/// Bytes of memory that a process has in use.
pub(crate) fn resident(pid: i32) -> Option<u64> {
    Some(Process::new(pid).ok()?.status().ok()?.vmrss? * 1_024)
}

/// Datagrams that sockets had no room for, in a namespace.
pub(crate) fn refused_by_sockets(place: &Place, seat: Seat) -> u64 {
    let count = || {
        // A thread that went to another namespace sees its own sockets under its own number alone.
        let thread = format!("/proc/self/task/{}", gettid());
        Some(Process::new_with_root(thread.into()).ok()?.snmp().ok()?.udp_rcvbuf_errors)
    };
    place.inside(seat, "meter", count).join().expect("no panic").unwrap_or_default()
}

pub(crate) fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a pid")
}
