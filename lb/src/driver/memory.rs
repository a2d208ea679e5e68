use std::{io, ptr::NonNull};

/// Zeroed memory from the system, page-aligned, resident page by page as it is touched. The kernel may
/// write to it while we have it, so it is only reached by pointers.
pub(super) struct Memory {
    begin: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory, and nothing about it belongs to a thread.
unsafe impl Send for Memory {}

impl Memory {
    /// # Errors
    /// The system has none left.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the system's choice touches nothing that exists.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        match NonNull::new(begin.cast::<u8>()) {
            Some(begin) if begin.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { begin, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) const fn begin(&self) -> *mut u8 {
        self.begin.as_ptr()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nobody has it any more.
        let _unmapped = unsafe { libc::munmap(self.begin.as_ptr().cast(), self.len) };
    }
}
