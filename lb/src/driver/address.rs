//! Socket addresses and packet information as the kernel writes them.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ptr, slice,
};

/// Room for a control message of packet information, IPv4's or IPv6's, and one of a length.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_LEN]);

pub(super) const CONTROL_LEN: usize = 64;

impl Control {
    pub(super) const EMPTY: Self = Self([0; CONTROL_LEN]);
}

/// Reads an address of `length` bytes that the kernel filled in. IPv4-mapped addresses come out as
/// IPv4.
pub(super) fn from_storage(storage: &libc::sockaddr_storage, length: usize) -> Option<SocketAddr> {
    let fits = |expected: usize| (length >= expected).then_some(());
    let storage: *const libc::sockaddr_storage = storage;
    // SAFETY: `storage` points to a live `sockaddr_storage`, whose family field is always readable.
    let family = unsafe { (*storage).ss_family };
    match i32::from(family) {
        libc::AF_INET => {
            fits(mem::size_of::<libc::sockaddr_in>())?;
            // SAFETY: with this family and length the storage holds a `sockaddr_in`, and `sockaddr_storage` is
            // at least as large and as aligned as every address type.
            let v4 = unsafe { storage.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            fits(mem::size_of::<libc::sockaddr_in6>())?;
            // SAFETY: as above, for `sockaddr_in6`.
            let v6 = unsafe { storage.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical();
            Some(SocketAddr::from((ip, u16::from_be(v6.sin6_port))))
        }
        _ => None,
    }
}

/// [`from_storage`] of the bytes of an address.
pub(super) fn from_bytes(name: &[u8]) -> Option<SocketAddr> {
    // SAFETY: this is a plain C struct, for which all zeroes is a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = name.len().min(mem::size_of_val(&storage));
    // SAFETY: both have `len` bytes, and the copy is ours alone.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr(), (&raw mut storage).cast(), len) };
    from_storage(&storage, len)
}

/// Writes an address for the kernel; says how many bytes of the storage it takes.
pub(super) fn to_storage(address: SocketAddr, storage: &mut libc::sockaddr_storage) -> usize {
    let storage: *mut libc::sockaddr_storage = storage;
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: `storage` is a live `sockaddr_storage`, at least as large and as aligned as
            // every address type.
            unsafe { storage.cast::<libc::sockaddr_in>().write(raw) };
            mem::size_of_val(&raw)
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.cast::<libc::sockaddr_in6>().write(raw) };
            mem::size_of_val(&raw)
        }
    }
}

/// Has a header say where the kernel is to write who sent a datagram, what it holds and what control messages
/// say about it. It is good for one call, for as long as these stay where they are.
pub(super) fn prepare(
    header: &mut libc::mmsghdr,
    name: &mut libc::sockaddr_storage,
    datagram: &mut libc::iovec,
    control: &mut [u8],
) {
    header.msg_len = 0;
    header.msg_hdr.msg_name = ptr::from_mut(name).cast();
    header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
    header.msg_hdr.msg_iov = datagram;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.as_mut_ptr().cast();
    header.msg_hdr.msg_controllen = control.len() as _;
    header.msg_hdr.msg_flags = 0;
}

/// What control messages say that came with a datagram, or with a train of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// The local address it was sent to, where the socket was asked to tell.
    pub(super) destination: Option<IpAddr>,
    /// Length in bytes of each datagram of a train but the last. `None`: it is a single one.
    pub(super) segment: Option<usize>,
}

/// [`told`], of the control messages alone, which are aligned to 8 bytes.
pub(super) fn told_in(control: &[u8]) -> Told {
    // SAFETY: this is a plain C struct, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_control = control.as_ptr().cast_mut().cast();
    header.msg_controllen = control.len() as _;
    told(&header)
}

/// Reads the control messages that came with a datagram.
pub(super) fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    for Message { level, kind, data } in messages(header) {
        match (level, kind) {
            // struct in_pktinfo { int ifindex; in_addr spec_dst, addr; }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let Some(ip) = data.get(8..).and_then(<[u8]>::first_chunk::<4>) {
                    told.destination = Some(Ipv4Addr::from(*ip).into());
                }
            }
            // struct in6_pktinfo { in6_addr addr; int ifindex; }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some(ip) = data.first_chunk::<16>() {
                    told.destination = Some(Ipv6Addr::from(*ip).to_canonical());
                }
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let segment = data.first_chunk().map(|segment| i32::from_ne_bytes(*segment));
                told.segment = segment.and_then(|segment| usize::try_from(segment).ok());
                told.segment = told.segment.filter(|segment| *segment > 0);
            }
            _ => {}
        }
    }
    told
}

/// A control message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) level: i32,
    pub(super) kind: i32,
    pub(super) data: &'a [u8],
}

/// The control messages that the kernel wrote behind a header.
pub(super) fn messages(header: &libc::msghdr) -> impl Iterator<Item = Message<'_>> {
    // SAFETY: `header` was filled in by the kernel, so its control pointer and length describe
    // well-formed control messages in a live, aligned buffer; the macro yields null or the first.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::from_fn(move || {
        let message = next;
        if message.is_null() {
            return None;
        }
        // SAFETY: `message` is inside the buffer that `header` describes; the macro yields null
        // behind the last one.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
        // SAFETY: not null, so it points to a control message header inside that buffer.
        let head = unsafe { *message };
        // SAFETY: the data of a control message follows its header in the same buffer.
        let data = unsafe { libc::CMSG_DATA(message) };
        let len = (head.cmsg_len as usize).saturating_sub(control_len(0).1);
        // SAFETY: a message's length is that of its header and of its data, which is inside the buffer
        // and only read for as long as the header is borrowed.
        let data = unsafe { slice::from_raw_parts(data, len) };
        Some(Message { level: head.cmsg_level, kind: head.cmsg_type, data })
    })
}

/// Writes control messages that make the kernel send from `source`, and cut what it sends into pieces of
/// `segment` bytes, where these are said; says how many bytes of `control` they take.
pub(super) fn write(source: Option<IpAddr>, segment: Option<u16>, control: &mut Control) -> usize {
    let behind = match source {
        None => 0,
        Some(IpAddr::V4(v4)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(v4).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control::<0, _>(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        Some(IpAddr::V6(v6)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: v6.octets() },
                ipi6_ifindex: 0,
            };
            write_control::<0, _>(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    };
    let Some(segment) = segment else { return behind };
    let (level, kind) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    match source {
        None => write_control::<0, _>(control, level, kind, segment),
        Some(IpAddr::V4(_)) => write_control::<BEHIND_V4, _>(control, level, kind, segment),
        Some(IpAddr::V6(_)) => write_control::<BEHIND_V6, _>(control, level, kind, segment),
    }
}

/// Bytes that the first message of [`write`] takes.
pub(super) const fn source_len(source: Option<IpAddr>) -> usize {
    match source {
        None => 0,
        Some(IpAddr::V4(_)) => BEHIND_V4,
        Some(IpAddr::V6(_)) => BEHIND_V6,
    }
}

const BEHIND_V4: usize = control_len(mem::size_of::<libc::in_pktinfo>()).0;
const BEHIND_V6: usize = control_len(mem::size_of::<libc::in6_pktinfo>()).0;

/// Bytes of a message in the buffer, and of the message without its padding.
const fn control_len(data: usize) -> (usize, usize) {
    assert!(data <= 32, "packet information is 12 or 20 bytes");
    // SAFETY: pure arithmetic on the length, in the form of an unsafe function.
    let space = unsafe { libc::CMSG_SPACE(data as u32) } as usize;
    // SAFETY: as above.
    let length = unsafe { libc::CMSG_LEN(data as u32) } as usize;
    (space, length)
}

/// Writes a message at the byte `AT` of the buffer; says where it ends.
fn write_control<const AT: usize, T: Copy>(
    control: &mut Control,
    level: i32,
    kind: i32,
    info: T,
) -> usize {
    let (space, length) = const {
        let (space, length) = control_len(mem::size_of::<T>());
        assert!(AT.is_multiple_of(8), "messages are aligned");
        assert!(AT + space <= CONTROL_LEN, "the buffer has room for it");
        (space, length)
    };
    let area = &mut control.0[AT..AT + space];
    area.fill(0);
    let at = area.as_mut_ptr();
    let head = libc::cmsghdr { cmsg_len: length as _, cmsg_level: level, cmsg_type: kind };
    // SAFETY: `control` is aligned for a `cmsghdr` (8 bytes), and so is what is a multiple of 8 behind its
    // beginning; as is asserted at compile time, there is room for the header and `info` behind it.
    unsafe { at.cast::<libc::cmsghdr>().write(head) };
    // SAFETY: the data begins one aligned header behind the beginning, inside the buffer.
    let data = unsafe { libc::CMSG_DATA(at.cast::<libc::cmsghdr>()) };
    // SAFETY: there is room for `info` at `data`, at whatever alignment that has.
    unsafe { data.cast::<T>().write_unaligned(info) };
    AT + space
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All zero, which is a valid value of this plain C struct.
    fn storage() -> libc::sockaddr_storage {
        // SAFETY: `sockaddr_storage` is plain old data.
        unsafe { mem::zeroed() }
    }

    #[test]
    fn addresses_survive_the_kernels_form_and_mapped_ones_become_ipv4() {
        for (text, expected) in [
            ("192.0.2.1:4433", "192.0.2.1:4433"),
            ("[2001:db8::7]:65535", "[2001:db8::7]:65535"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:1"),
        ] {
            let mut storage = storage();
            let length = to_storage(text.parse().expect("an address"), &mut storage);
            let expected = Some(expected.parse().expect("an address"));
            assert_eq!(from_storage(&storage, length), expected);
            assert_eq!(from_storage(&storage, length - 1), None, "cut short");
        }
        let whole = mem::size_of::<libc::sockaddr_storage>();
        assert_eq!(from_storage(&storage(), whole), None, "no family, no address");
    }
}
