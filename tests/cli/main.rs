//! The program from outside: its commands, its files, its signals and its exit codes.

mod bad_input;
mod control;
mod demo;
mod examples;
mod id;
mod lb;
mod logs;
mod operate;
mod process;
mod sfu;
