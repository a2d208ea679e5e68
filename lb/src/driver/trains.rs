//! Which datagrams of a batch leave together. No system calls.
//!
//! The kernel takes a train of datagrams to one address in one message and cuts it up itself (UDP GSO, udp(7)
//! `UDP_SEGMENT`): all are of one length but the last, which may be shorter. Behind the tunnel header,
//! clients' datagrams for a node all have the same address, whoever they are from, so most of a batch may be
//! one train.

use std::{
    iter,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

/// Most datagrams of a train: what every kernel with GSO takes (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: u16 = 64;

/// Most bytes of a train, below what one IP packet holds.
const BYTES_MAX: usize = 65_000;

/// Ways that are remembered; a power of two.
const SLOTS: usize = 128;

const NONE: u16 = u16::MAX;

/// By which socket a datagram leaves, where to, and where from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Way {
    /// Stands for a socket, in a queue that has several.
    pub(super) lane: u32,
    pub(super) to: SocketAddr,
    /// The local address to send from, for a socket that is bound to more than one.
    pub(super) from: Option<IpAddr>,
}

impl Way {
    /// Where it is remembered. Peers may choose addresses that meet here, and gain nothing by it: who is
    /// forgotten travels alone.
    fn slot(&self) -> usize {
        let ip = match self.to.ip() {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => {
                let [.., a, b, c, d] = ip.octets();
                u32::from_be_bytes([a, b, c, d])
            }
        };
        let mixed = (ip ^ u32::from(self.to.port()).rotate_left(16)).wrapping_mul(0x9E37_79B1);
        (mixed >> 16) as usize % SLOTS
    }
}

/// Some datagrams that go the same way, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Train {
    pub(super) way: Way,
    /// Length of each but the last, in bytes.
    pub(super) segment: usize,
    pub(super) count: u16,
    first: u16,
    last: u16,
    bytes: usize,
    /// A datagram that is shorter is the last.
    is_open: bool,
}

impl Train {
    fn takes(&self, way: &Way, len: usize) -> bool {
        self.is_open
            && self.way == *way
            && (1..=self.segment).contains(&len)
            && self.count < SEGMENTS_MAX
            && self.bytes + len <= BYTES_MAX
    }
}

/// The trains of a batch, in the order of their first datagrams. Datagrams that go the same way leave in
/// the order in which they came.
#[derive(Debug)]
pub(super) struct Trains {
    trains: Vec<Train>,
    /// For each datagram the one behind it in its train.
    next: Vec<u16>,
    /// The newest train of a way that is remembered there.
    newest: [u16; SLOTS],
    /// Whether a train may have more than one.
    together: bool,
}

impl Trains {
    /// With room for so many datagrams.
    pub(super) fn new(most: usize) -> Self {
        Self {
            trains: Vec::with_capacity(most),
            next: Vec::with_capacity(most),
            newest: [NONE; SLOTS],
            together: true,
        }
    }

    /// From now on each travels alone.
    pub(super) const fn separate(&mut self) {
        self.together = false;
    }

    /// Adds the next datagram, of `len` bytes.
    pub(super) fn push(&mut self, way: Way, len: usize) {
        let number = self.next.len() as u16;
        self.next.push(NONE);
        let newest = &mut self.newest[way.slot()];
        let train = self.trains.get_mut(usize::from(*newest));
        match train.filter(|train| self.together && train.takes(&way, len)) {
            Some(train) => {
                self.next[usize::from(train.last)] = number;
                train.last = number;
                train.count += 1;
                train.bytes += len;
                train.is_open = len == train.segment;
            }
            None => {
                *newest = self.trains.len() as u16;
                self.trains.push(Train {
                    way,
                    segment: len,
                    count: 1,
                    first: number,
                    last: number,
                    bytes: len,
                    is_open: true,
                });
            }
        }
    }

    /// Sorts by lane. Nothing can be added behind that.
    pub(super) fn by_lane(&mut self) {
        self.trains.sort_unstable_by_key(|train| (train.way.lane, train.first));
    }

    /// The next run of trains of one lane.
    pub(super) fn run(&self, begin: usize) -> Option<(u32, Range<usize>)> {
        let lane = self.trains.get(begin)?.way.lane;
        let same = self.trains[begin..].iter().take_while(|train| train.way.lane == lane);
        Some((lane, begin..begin + same.count()))
    }

    pub(super) fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// The numbers of a train's datagrams, in their order.
    pub(super) fn datagrams(&self, train: &Train) -> impl Iterator<Item = usize> {
        let behind = |number: &usize| {
            let next = self.next[*number];
            (next != NONE).then_some(usize::from(next))
        };
        iter::successors(Some(usize::from(train.first)), behind)
    }

    /// How many datagrams some of the trains have.
    pub(super) fn count(&self, trains: Range<usize>) -> usize {
        self.trains[trains].iter().map(|train| usize::from(train.count)).sum()
    }

    pub(super) fn clear(&mut self) {
        self.trains.clear();
        self.next.clear();
        self.newest = [NONE; SLOTS];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way(number: u8, lane: u32) -> Way {
        Way { lane, to: SocketAddr::from(([10, 0, 0, number], 7000)), from: None }
    }

    /// The lengths of all trains' datagrams.
    fn lengths(datagrams: &[(u8, usize)]) -> Vec<(u8, Vec<usize>)> {
        let mut trains = Trains::new(datagrams.len());
        for (to, len) in datagrams {
            trains.push(way(*to, 0), *len);
        }
        let one = |train: &Train| {
            let IpAddr::V4(to) = train.way.to.ip() else { panic!("none of ours") };
            (to.octets()[3], trains.datagrams(train).map(|at| datagrams[at].1).collect())
        };
        trains.trains().iter().map(one).collect()
    }

    #[test]
    fn datagrams_of_one_length_to_one_address_leave_together_whoever_comes_between() {
        let trains = lengths(&[(1, 90), (2, 90), (1, 90), (3, 7), (1, 90), (2, 90)]);
        assert_eq!(trains, [(1, vec![90; 3]), (2, vec![90; 2]), (3, vec![7])]);
    }

    #[test]
    fn a_shorter_one_ends_a_train_and_a_longer_one_begins_the_next() {
        let trains = lengths(&[(1, 90), (1, 80), (1, 80), (1, 90), (1, 90), (1, 0), (1, 0)]);
        let expected = [vec![90, 80], vec![80], vec![90, 90], vec![0], vec![0]];
        assert_eq!(trains, expected.map(|lengths| (1, lengths)));
    }

    #[test]
    fn no_train_is_longer_than_the_kernel_takes() {
        let short: Vec<_> = lengths(&[(1, 100); 96]);
        assert_eq!(short, [(1, vec![100; 64]), (1, vec![100; 32])]);
        let long: Vec<_> = lengths(&[(1, 1_238); 96]).iter().map(|(_, all)| all.len()).collect();
        assert_eq!(long, [52, 44]);
    }

    #[test]
    fn where_they_are_to_travel_alone_they_do() {
        let mut trains = Trains::new(3);
        trains.separate();
        (0..3).for_each(|_| trains.push(way(1, 0), 90));
        assert_eq!(trains.trains().iter().map(|train| train.count).collect::<Vec<_>>(), [1, 1, 1]);
    }

    proptest! {
        /// Whatever the batch, however many of their ways meet in one slot.
        #[test]
        fn each_leaves_once_its_own_way_and_none_overtakes_another_of_it(
            batch in prop::collection::vec((0..6_u8, 0..3_u32, prop::sample::select(vec![0, 1, 60, 90, 1_200])), 0..96),
        ) {
            let mut trains = Trains::new(batch.len());
            for (to, lane, len) in &batch {
                trains.push(way(*to, *lane), *len);
            }
            trains.by_lane();
            let mut left = vec![false; batch.len()];
            let mut last = std::collections::HashMap::new();
            let mut begin = 0;
            while let Some((lane, run)) = trains.run(begin) {
                prop_assert_eq!(run.start, begin);
                begin = run.end;
                for train in &trains.trains()[run] {
                    let all: Vec<_> = trains.datagrams(train).collect();
                    prop_assert_eq!(all.len(), usize::from(train.count));
                    let lengths: Vec<_> = all.iter().map(|at| batch[*at].2).collect();
                    let (end, others) = lengths.split_last().expect("one at least");
                    prop_assert!(others.iter().all(|len| *len == train.segment) && *end <= train.segment);
                    for at in all {
                        let (to, of, _) = batch[at];
                        prop_assert_eq!((way(to, of), of), (train.way, lane));
                        prop_assert!(!std::mem::replace(&mut left[at], true));
                        let before = last.insert((to, of), at);
                        prop_assert!(before.is_none_or(|before| before < at));
                    }
                }
            }
            prop_assert!(left.iter().all(|left| *left));
        }
    }
}
