//! The engine of `smok_fast`.
//!
//! Everything that has to be fast or exact lives here: the order queue, the archive schedule, the
//! buffer of samples, the MiniJSON codec, reparse expressions, MODBUS and NGTT framing. No Python
//! and no unsafe code; input from the network is bounded in time and memory, and never panics.

pub mod buffer;
pub mod clock;
pub mod minijson;
pub mod modbus;
pub mod ngtt;
pub mod order;
pub mod pathpoint;
pub mod queue;
pub mod reparse;
pub mod schedule;
pub mod value;
