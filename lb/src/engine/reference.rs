//! The decision table, said slowly.
