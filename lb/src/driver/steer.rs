//! Which worker a client's datagrams come to: a rule that the kernel follows, and that is known here too.
//!
//! The kernel's own choice among sockets of one address depends on how many there are, and nobody can
//! tell it beforehand. So each listen address gets a program in classic BPF that says the socket's number,
//! by the client's IP address and UDP port; the same is computed here, where flows are handed over because
//! the number of workers changes.
//!
//! ```text
//! words   IPv4: 2 of the address, the port       IPv6: 8 of the address, the port      of 16 bits each
//! sum     key₀ + key₁ · word₁ + key₂ · word₂ + …                                       modulo 2³²
//! worker  the sum's upper 16 bits, scaled from 65,536 to the number of workers
//! ```
//!
//! With random keys this is strongly universal (Lemire and Kaser, "Strongly universal string hashing is
//! fast"): who does not know them cannot aim at a worker, as two clients meet at one no more often than
//! by chance.
//!
//! Of IPv6 with extension headers the kernel's program takes the address alone: where the port stands
//! would have to be searched for. Such a client is steered as steadily, but not where is said here.

use std::{io, mem, net::IpAddr, net::SocketAddr, os::fd::AsRawFd, ptr};

use ahash::RandomState;
use socket2::Socket;

use super::Sockets;

/// Most words of a client: an IPv6 address, and a port.
const WORDS: usize = 9;

/// What the rule depends on, besides the number of workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steering {
    begin: u32,
    keys: [u32; WORDS],
}

impl Steering {
    /// A rule that nobody knows outside of this process.
    pub(crate) fn random() -> Self {
        let random = RandomState::new();
        Self::keyed(|number| random.hash_one(number) as u32)
    }

    fn keyed(key: impl Fn(usize) -> u32) -> Self {
        let mut keys = [0; WORDS];
        keys.iter_mut().zip(1..).for_each(|(word, number)| *word = key(number));
        Self { begin: key(0), keys }
    }

    /// The worker that a client's datagrams come to, of so many.
    pub(crate) fn worker(&self, client: SocketAddr, workers: usize) -> usize {
        let (words, count) = words(client);
        let products = words.iter().zip(&self.keys).take(count);
        let sum = products.fold(self.begin, |sum, (&word, &key)| {
            sum.wrapping_add(u32::from(word).wrapping_mul(key))
        });
        ((sum as usize >> 16) * workers) >> 16
    }

    /// Has the kernel choose so among the sockets of this one's address, in the order in which they were
    /// bound. Replaces what it chose by before, between two datagrams.
    pub(crate) fn attach(&self, socket: &Socket, workers: usize) -> io::Result<()> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        let mut program = self.program(is_v6, workers);
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let length = mem::size_of_val(&program) as libc::socklen_t;
        // SAFETY: the option takes a `sock_fprog`, which is live and says how many live instructions there
        // are; the kernel copies them. The descriptor is open while `socket` is borrowed.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                ptr::from_ref(&program).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The program: it begins behind the UDP header, so what it reads is asked for from the IP header on.
    fn program(&self, is_v6: bool, workers: usize) -> Vec<libc::sock_filter> {
        use libc::{
            BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JMP,
            BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MSH, BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_W,
            BPF_X,
        };
        const IP: u32 = libc::SKF_NET_OFF.cast_unsigned();
        const ONE_WORD: u8 = 5;
        if workers <= 1 {
            return vec![instruction(BPF_RET | BPF_K, 0)];
        }
        let (source, words) = if is_v6 { (8, 8) } else { (12, 2) };
        let mut program = vec![instruction(BPF_LD | BPF_IMM, self.begin), instruction(BPF_ST, 0)];
        // Adds the word in the accumulator to the sum in memory.
        let add = |key| {
            [
                instruction(BPF_ALU | BPF_MUL | BPF_K, key),
                instruction(BPF_LDX | BPF_W | BPF_MEM, 0),
                instruction(BPF_ALU | BPF_ADD | BPF_X, 0),
                instruction(BPF_ST, 0),
            ]
        };
        for (&key, at) in self.keys[..words].iter().zip((source..).step_by(2)) {
            program.push(instruction(BPF_LD | BPF_H | BPF_ABS, IP + at));
            program.extend(add(key));
        }
        if is_v6 {
            let udp = libc::IPPROTO_UDP as u32;
            program.push(instruction(BPF_LD | BPF_B | BPF_ABS, IP + 6));
            program.push(jump(BPF_JMP | BPF_JEQ | BPF_K, udp, 0, ONE_WORD));
            program.push(instruction(BPF_LD | BPF_H | BPF_ABS, IP + 40));
        } else {
            // Behind the header's own length.
            program.push(instruction(BPF_LDX | BPF_B | BPF_MSH, IP));
            program.push(instruction(BPF_LD | BPF_H | BPF_IND, IP));
        }
        program.extend(add(self.keys[words]));
        program.extend([
            instruction(BPF_LD | BPF_W | BPF_MEM, 0),
            instruction(BPF_ALU | BPF_RSH | BPF_K, 16),
            instruction(BPF_ALU | BPF_MUL | BPF_K, workers as u32),
            instruction(BPF_ALU | BPF_RSH | BPF_K, 16),
            instruction(BPF_RET | BPF_A, 0),
        ]);
        program
    }
}

/// The sockets of all workers, a group of them at each listen address, steered by one rule.
pub(crate) struct Steered {
    rule: Steering,
    /// One socket of each group: the first worker's.
    groups: Vec<Socket>,
}

impl Steered {
    /// With what the first worker has opened, whoever has it then.
    pub(crate) fn by(rule: Steering, first: &Sockets) -> io::Result<Self> {
        let groups = first.listeners.iter().map(|(_, socket)| socket.try_clone());
        Ok(Self { rule, groups: groups.collect::<Result<_, _>>()? })
    }

    pub(crate) const fn rule(&self) -> Steering {
        self.rule
    }

    /// Steers all clients to the first so many workers.
    pub(crate) fn to(&self, workers: usize) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| self.rule.attach(group, workers))
    }
}

const fn instruction(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// What stands for a client, and of how many words it is.
fn words(client: SocketAddr) -> ([u16; WORDS], usize) {
    let mut words = [0; WORDS];
    let count = match client.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            words[..2].copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            2
        }
        IpAddr::V6(ip) => {
            words[..8].copy_from_slice(&ip.segments());
            8
        }
    };
    words[count] = client.port();
    (words, count + 1)
}

#[cfg(test)]
mod tests;
