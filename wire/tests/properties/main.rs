//! What holds for all values, not only for those of the published vectors. What is read here was
//! written by other people's code wherever there is some.

mod hello;
mod ids;
mod never_panics;
mod stun;
mod tunnel;
