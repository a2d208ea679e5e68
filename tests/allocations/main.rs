//! The packet path does not allocate: not in the engine, for any row of the decision table, and not
//! in a running LB.
//!
//! Counts every allocation of the process, so this is a program of its own, with one test at a time.

mod driver;
mod engine;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often anything was allocated, reallocated or freed meanwhile, on any thread.
fn allocations(meanwhile: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    meanwhile();
    let change = region.change();
    change.allocations + change.reallocations + change.deallocations
}

#[test]
fn an_allocation_would_be_noticed() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1)))), 2);
    assert_eq!(allocations(|| {}), 0);
}
