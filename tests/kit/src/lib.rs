//! Datagrams for tests, fuzzers and benches, made by other people's code: STUN by `stun_codec`,
//! ClientHellos and Initial packets by `rustls`. What `wire` reads, `wire` did not write.
