//! What it costs to forward a datagram: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    forward::main()
}
