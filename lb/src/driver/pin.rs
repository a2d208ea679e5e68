//! Which core a worker runs on, where it is to stay on one.

use std::{io, mem};

use tracing::{debug, warn};

/// The cores that the calling thread may run on, in order.
pub(super) fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: this is a plain C struct, for which all zeroes is a valid value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is live and of that size, and the kernel fills no more; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let is_in = |core: &usize| {
        // SAFETY: `core` is below the number of bits that a set has.
        unsafe { libc::CPU_ISSET(*core, &set) }
    };
    Ok((0..8 * mem::size_of_val(&set)).filter(is_in).collect())
}

/// A worker that cannot stay on a core works as well as any, so that is said and no more.
pub(super) fn keep(number: usize, cores: io::Result<Vec<usize>>) {
    match cores.and_then(|cores| to_core_of(number, &cores)) {
        Ok(core) => debug!(worker = number, core, "pinned"),
        Err(problem) => warn!("io.pin: worker {number} cannot be kept to a core: {problem}"),
    }
}

/// Has the calling thread run on the core of its turn: of as many as the process may use, each takes one
/// worker before any takes a second.
fn to_core_of(worker: usize, cores: &[usize]) -> io::Result<usize> {
    let turn = worker.checked_rem(cores.len()).ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: this is a plain C struct, for which all zeroes is a valid value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the core came out of such a set, so it is below the number of its bits.
    unsafe { libc::CPU_SET(cores[turn], &mut set) };
    // SAFETY: `set` is live and of that size, and the kernel only reads it; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cores[turn])
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn workers_take_the_cores_of_the_process_in_turn() {
        let cores = cores().expect("the system says so");
        assert!(!cores.is_empty());
        for worker in 0..2 * cores.len() {
            let pinned = thread::scope(|scope| {
                let pin = || (to_core_of(worker, &cores).ok(), super::cores().ok());
                scope.spawn(pin).join().expect("no panic")
            });
            let expected = cores[worker % cores.len()];
            assert_eq!(pinned, (Some(expected), Some(vec![expected])), "worker {worker}");
        }
        assert_eq!(super::cores().ok(), Some(cores), "nobody else is pinned by that");
    }

    #[test]
    fn a_core_that_the_process_may_not_use_is_refused() {
        let last = 8 * mem::size_of::<libc::cpu_set_t>() - 1;
        assert!(to_core_of(0, &[last]).is_err(), "no machine of ours has {last} cores");
        assert!(to_core_of(0, &[]).is_err());
    }
}
