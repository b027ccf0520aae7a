//! MODBUS: requests, answers, framing, the client's side of a connection, and planning of reads.
//!
//! * [`pdu`]: what is asked and answered (functions 1 to 6, 15 and 16), the same on every transport;
//! * [`tcp`]: the frames that carry it over TCP;
//! * [`client`]: which frame answers which request;
//! * [`register`]: where the value of a pathpoint lies, and how it is laid out there;
//! * [`planner`]: few requests for many registers.
//!
//! Nothing here does I/O or keeps time: bytes come in, bytes and decisions go out. Whatever a peer sends costs memory
//! and time in proportion to its bytes, and comes out as an answer or an error.
//!
//! Sources: MODBUS Application Protocol Specification V1.1b3, and MODBUS Messaging on TCP/IP Implementation Guide V1.0b.

pub mod client;
pub mod pdu;
pub mod planner;
pub mod register;
pub mod tcp;
