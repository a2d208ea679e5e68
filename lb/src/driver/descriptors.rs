use std::io;

/// Sees to it that this process may have so many files open: raises its own limit as far as the
/// system lets it. Says what the limit is then, where that is too low.
pub(crate) fn allow(needed: u64) -> Result<(), u64> {
    let Ok(mut limit) = current() else {
        // Where nobody can say, nothing is refused beforehand.
        return Ok(());
    };
    if limit.rlim_cur < needed {
        let former = limit.rlim_cur;
        limit.rlim_cur = needed.min(limit.rlim_max);
        // SAFETY: `limit` is live, and the kernel only reads it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            limit.rlim_cur = former;
        }
    }
    if limit.rlim_cur < needed { Err(limit.rlim_cur) } else { Ok(()) }
}

fn current() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live, and the kernel fills it.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}
