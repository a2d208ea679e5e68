//! Results on stdout.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process,
};

/// Prints a line, or several. Who has stopped reading, as `head` does, has read enough.
pub(crate) fn say(text: impl Display) {
    write(format_args!("{text}\n"));
}

/// Prints a text as it is.
pub(crate) fn write(text: impl Display) {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("onevip: the result cannot be written: {error}");
            process::exit(1);
        }
        Ok(()) | Err(_) => {}
    }
}
